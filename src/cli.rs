//! The command line: what can be asked for, and which module does it.

#![expect(clippy::doc_markdown, reason = "these comments are what --help prints")]

mod canary;
mod check;
mod dev;
mod doctor;
mod fire;
mod package;
mod serve;
mod simulate;

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand};

/// A debug build says so: `package` asks.
const VERSION: &str = if cfg!(debug_assertions) {
    concat!(env!("CARGO_PKG_VERSION"), " (debug build)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Orderflow runs a sales application as Event Grid-driven functions.
///
/// Try it: `orderflow dev`, then in another terminal
/// `curl -i localhost:7071/api/orders -H 'content-type: application/json' -d @samples/place-order.json`.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The custom handler: what the Azure Functions host starts
    ///
    /// Listens on 127.0.0.1:FUNCTIONS_CUSTOMHANDLER_PORT (8080 when unset). Settings come from the environment:
    /// EVENTGRID_TOPIC_ENDPOINT and STORE_URL are required; EVENTGRID_TOPIC_KEY, PAYMENT_PROVIDER, CATALOG_FILE and
    /// RUST_LOG are optional.
    Serve {
        /// Stop when standard input ends: so no handler outlives the `orderflow dev` that started it
        #[arg(long)]
        stop_with_stdin: bool,
    },

    /// The whole application on this machine: a local Event Grid, a stand-in for the Functions host, and the handler
    ///
    /// Nothing else is needed: no Azure, Docker, .NET or network. Orders enter at
    /// http://127.0.0.1:7071/api/orders; everything is kept in one folder and goes on after a restart.
    Dev(dev::Dev),

    /// The local Event Grid alone, for use beside `func start`
    Grid(dev::Grid),

    /// Stage the folder that `func start` and `func azure functionapp publish` want, and prove that it works
    ///
    /// It gets host.json, local.settings.json, the handler and a folder for each function. A handler that would not start
    /// in Azure is refused. What was staged is started in a clean environment, and every function is invoked once.
    Package(package::Options),

    /// Compare the files that are made from the code with what the code says; exit with 1 when they differ
    ///
    /// These are the function.json files, the event subscriptions, the JSON Schemas of the events, the AsyncAPI and
    /// the OpenAPI document, the samples, and the picture in README.md. Each difference is one line.
    ///
    /// Fails too when an event breaks with its schema in schemas/released (a field that is gone, of another kind, or
    /// required now), when an event type is one that nobody takes, and when it is a failure that nobody undoes.
    Check(check::Check),

    /// Send an order that is marked as a test through a running application, and wait until every service has answered
    ///
    /// It shows that the application, its topic, its database and every event subscription work together. Every service
    /// takes part and declines, so nothing is charged, reserved or shipped; the order ends as cancelled, with the
    /// reason testOrder. ORDERFLOW_FUNCTION_KEY in the environment is sent as the function key.
    ///
    /// For example `orderflow canary --to https://APP.azurewebsites.net`. Exits with 1 when a service has not
    /// answered, and names it.
    Canary(canary::Canary),

    /// Look at this machine, or at a deployed app's settings, and name what is missing or contradictory
    ///
    /// Looks at the settings, host.json and the functions' folders, then asks the topic (which gets an event of a type
    /// that nobody subscribes to), the database, and the clock. Each thing found has its fix. Nothing is changed.
    ///
    /// For a deployed app:
    /// `az functionapp config appsettings list -n APP -g GROUP -o json > settings.json`,
    /// `az functionapp show -n APP -g GROUP -o json > app.json`,
    /// `orderflow doctor --from settings.json --from app.json --folder dist`.
    /// Exits with 1 when there is a fault; doubts alone are none.
    Doctor(doctor::Doctor),

    /// Send a sample event, as Event Grid would
    ///
    /// For example `orderflow fire OrderPlaced --order 0199c0de-0000-7000-8000-00000000002a`.
    Fire(fire::Fire),

    /// Run the real functions in a simulated, hostile world, and check that nothing is charged twice, shipped unpaid
    /// or forgotten
    ///
    /// Clock, store, Event Grid, payment provider and carrier are simulated, and everything goes wrong that can:
    /// deliveries are lost, late, repeated and dead-lettered, processes are killed between any two steps, nobody
    /// answers in time. After every step the invariants are checked; at the end every order must have come to a result
    /// that adds up. A failure is shrunk to the smallest case like it, with the command that repeats it.
    ///
    /// For example `orderflow simulate --seeds 100 --orders 1000`, or `--faults 0` for a world without faults. Exits
    /// with 1 when an invariant is broken.
    #[command(after_long_help = simulate::lists())]
    Simulate(simulate::Simulate),
}

/// Runs the command that the process's arguments ask for. 0 is done, 1 failed, 2 wrong usage.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Serve { stop_with_stdin } => block_on_one_thread(serve::run(stop_with_stdin)),
        Command::Dev(dev) => block_on(dev::run(dev)),
        Command::Grid(grid) => block_on(dev::run_grid(grid)),
        Command::Package(options) => block_on(package::run(options)),
        Command::Check(check) => check::run(&check),
        Command::Canary(canary) => block_on(canary::run(canary)),
        Command::Doctor(doctor) => block_on(doctor::run(doctor)),
        Command::Fire(fire) => block_on(fire::run(fire)),
        Command::Simulate(simulate) => simulate::run(&simulate),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("orderflow: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a future on all cores. Why it failed is one line for a person.
fn block_on(future: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|error| format!("cannot start: {error}"))?
        .block_on(future)
}

/// Runs a future on one thread. The handler's other thread is the store's: more of them would cost each event more
/// in waking each other up than they win.
fn block_on_one_thread(future: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|error| format!("cannot start: {error}"))?
        .block_on(future)
}

/// Until the process is asked to stop: SIGINT or SIGTERM.
///
/// # Errors
/// The signals cannot be listened to.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
    let (mut interrupt, mut terminate) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Until standard input ends.
///
/// # Errors
/// The thread that reads it cannot be started.
fn end_of_stdin() -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let (ended, end) = tokio::sync::oneshot::channel();
    let read = move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    };
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(read)
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(async move {
        let _ = end.await;
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
