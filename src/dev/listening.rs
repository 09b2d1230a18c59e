//! Listening on the loopback interface, and stopping in an orderly way.

use std::{future::IntoFuture as _, io, net::Ipv4Addr, time::Duration};

use axum::{Router, serve::ListenerExt as _};
use tokio::net::TcpListener;

use super::{DevError, stop::Stop};

/// How long requests under way may take to finish once the stand-ins stop.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// Listens on 127.0.0.1; `flag` is what chooses another port.
pub(super) async fn bind(port: u16, flag: &'static str) -> Result<TcpListener, DevError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|cause| DevError::Port { port, flag, cause })
}

/// The address of `listener` as others write it, without a slash at the end.
pub(super) fn address(listener: &TcpListener) -> Result<String, DevError> {
    let address = listener.local_addr().map_err(DevError::Listener)?;
    Ok(format!("http://{address}"))
}

/// Answers requests until told to stop, then lets those under way finish for a while.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: Stop,
) -> Result<(), DevError> {
    let listener = listener.tap_io(|stream| {
        // Only latency is at stake, so a refusal is no reason to drop the connection.
        drop(stream.set_nodelay(true));
    });
    let graceful = stop.clone();
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { graceful.requested().await })
        .into_future();
    let drained = async move {
        stop.requested().await;
        tokio::time::sleep(DRAIN).await;
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        ended = server => ended.map_err(DevError::Listener),
        given_up = drained => given_up.map_err(DevError::Listener),
    }
}
