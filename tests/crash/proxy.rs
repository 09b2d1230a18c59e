//! A TCP proxy that cuts connections: all of them now, before a request has wholly gone through, or after it was
//! carried out and before its answer comes back.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What is cut.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// Every connection that there is.
    Everything,
    /// The next connections with a request, in the middle of it.
    Requests(u32),
    /// The next connections with an answer, which is lost.
    Answers(u32),
}

/// A proxy in front of one address.
pub struct Proxy {
    pub address: SocketAddr,
    orders: Arc<Orders>,
}

/// What is still to be cut.
struct Orders {
    requests: AtomicU32,
    answers: AtomicU32,
    everything: watch::Sender<()>,
    done: AtomicU32,
}

impl Proxy {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let orders = Arc::new(Orders {
            requests: AtomicU32::new(0),
            answers: AtomicU32::new(0),
            everything: watch::Sender::new(()),
            done: AtomicU32::new(0),
        });
        let accepting = orders.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, accepting.clone()));
            }
        });
        Self { address, orders }
    }

    /// Cuts; what is to come is cut when it comes.
    pub fn cut(&self, cut: Cut) {
        match cut {
            Cut::Everything => {
                self.orders.everything.send_replace(());
            }
            Cut::Requests(count) => self.orders.requests.store(count, SeqCst),
            Cut::Answers(count) => self.orders.answers.store(count, SeqCst),
        }
    }

    /// From now on nothing is cut any more.
    pub fn heal(&self) {
        self.cut(Cut::Requests(0));
        self.cut(Cut::Answers(0));
    }

    /// How many connections were cut.
    pub fn done(&self) -> u32 {
        self.orders.done.load(SeqCst)
    }
}

impl Orders {
    /// Whether this piece is one of those to be cut.
    fn take(left: &AtomicU32) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        left.fetch_update(SeqCst, SeqCst, one_less).is_ok()
    }
}

/// Carries one connection until one side closes it or it is cut.
async fn carry(client: TcpStream, upstream: SocketAddr, orders: Arc<Orders>) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut everything = orders.everything.subscribe();
    let cut = tokio::select! {
        cut = pump(from_client, to_server, &orders.requests, true) => cut,
        cut = pump(from_server, to_client, &orders.answers, false) => cut,
        _ = everything.changed() => true,
    };
    if cut {
        orders.done.fetch_add(1, SeqCst);
    }
}

/// Passes on what comes until the connection ends (`false`) or a piece of it is to be cut (`true`). Of a piece that is
/// cut, half goes through, or nothing.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    cuts: &AtomicU32,
    half: bool,
) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => read,
        };
        let cut = Orders::take(cuts);
        let passed = match (cut, half) {
            (false, _) => read,
            (true, true) => read / 2,
            (true, false) => 0,
        };
        if to.write_all(&buffer[..passed]).await.is_err() || cut {
            return cut;
        }
    }
}
