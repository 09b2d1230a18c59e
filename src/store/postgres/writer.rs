//! The tasks that write, and their group commit: while one transaction is on its way, the next group gathers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, mpsc::UnboundedReceiver},
    time::{Instant, timeout},
};

use super::{
    connection::Link,
    failure::Failure,
    job::{Job, Outcome},
    transaction,
};
use crate::store::{Receipt, StoreError};

/// The most jobs in one transaction: bounds how long the first of them waits.
const MAX_GROUP: usize = 256;

/// How long what nobody waits for may wait for company: it is not worth a flush of its own.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long one transaction may take. Longer than the server's own limits (connection.rs), so that it is a server that
/// does not answer at all.
const TRANSACTION_LIMIT: Duration = Duration::from_secs(10);

/// How often a group is run when somebody else was faster. Once is enough for a row that came into being meanwhile.
const MAX_ATTEMPTS: u32 = 4;

/// For how long the jobs of a group that failed are run one by one. Whoever waits has a delivery's time.
const ALONE_LIMIT: Duration = Duration::from_secs(8);

/// Where the jobs come from: whichever writer is free takes all that there are.
pub(super) type Queue = Arc<Mutex<UnboundedReceiver<Job>>>;

/// Writes until nobody can send any more.
pub(super) async fn run(mut link: Link, queue: Queue) {
    loop {
        let jobs = gather(&mut *queue.lock().await).await;
        if jobs.is_empty() {
            return;
        }
        write(&mut link, jobs).await;
    }
}

/// The next group; empty at the end.
async fn gather(queue: &mut UnboundedReceiver<Job>) -> Vec<Job> {
    let mut jobs = Vec::new();
    queue.recv_many(&mut jobs, MAX_GROUP).await;
    while !jobs.is_empty() && jobs.len() < MAX_GROUP && !jobs.iter().any(Job::is_awaited) {
        let room = MAX_GROUP - jobs.len();
        match timeout(PATIENCE, queue.recv_many(&mut jobs, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    jobs
}

async fn write(link: &mut Link, mut jobs: Vec<Job>) {
    while !jobs.is_empty() {
        let outcomes = commit(link, &jobs).await;
        let answered = jobs.drain(..outcomes.len().clamp(1, jobs.len()));
        let nothing = || {
            Err(unavailable(
                "the group made no progress; this is a bug".to_owned(),
            ))
        };
        let mut outcomes = outcomes.into_iter();
        for job in answered {
            job.answer(outcomes.next().unwrap_or_else(nothing));
        }
    }
}

/// Runs jobs in one transaction; the outcomes of the first of them, of all if possible. If the server refuses it, each
/// job gets a transaction of its own, so that one job's fault is nobody else's.
async fn commit(link: &mut Link, jobs: &[Job]) -> Vec<Outcome> {
    let began = Instant::now();
    match transact(link, jobs).await {
        Ok(outcomes) => outcomes,
        Err(Failure::Refused(reason)) if jobs.len() > 1 => {
            let mut outcomes = Vec::with_capacity(jobs.len());
            for job in jobs {
                outcomes.push(if began.elapsed() < ALONE_LIMIT {
                    alone(link, job).await
                } else {
                    Err(unavailable(reason.clone()))
                });
            }
            outcomes
        }
        Err(failure) => {
            let error = unavailable(failure.into_reason());
            jobs.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

async fn alone(link: &mut Link, job: &Job) -> Outcome {
    match transact(link, std::slice::from_ref(job)).await {
        Ok(outcomes) => outcomes
            .into_iter()
            .next()
            .unwrap_or(Ok(Receipt::default())),
        Err(failure) => Err(unavailable(failure.into_reason())),
    }
}

/// Runs jobs in one transaction, again if that is safe and promises to help.
async fn transact(link: &mut Link, jobs: &[Job]) -> Result<Vec<Outcome>, Failure> {
    let mut attempt = 1;
    loop {
        let session = link.session().await.map_err(Failure::Lost)?;
        let failure = match timeout(TRANSACTION_LIMIT, transaction::run(&session, jobs)).await {
            Ok(Ok(outcomes)) => return Ok(outcomes),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Unknown(format!("no answer within {TRANSACTION_LIMIT:?}")),
        };
        match failure {
            Failure::Again(_) if attempt < MAX_ATTEMPTS => {}
            // A connection that was cut while it was idle.
            Failure::Lost(_) if attempt == 1 => link.give_up(),
            // So unlucky a group is better run one by one.
            Failure::Again(reason) => return Err(Failure::Refused(reason)),
            failure => {
                if matches!(failure, Failure::Lost(_) | Failure::Unknown(_)) {
                    link.give_up();
                }
                return Err(failure);
            }
        }
        attempt += 1;
    }
}

fn unavailable(reason: String) -> StoreError {
    StoreError::Unavailable(reason)
}
