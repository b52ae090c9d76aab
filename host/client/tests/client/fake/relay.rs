//! A host that decides where connections go, and when.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A relay; it stops when dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// A relay to `target`.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, seen) = watch::channel(Some(target));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut seen = seen.clone();
                connections.spawn(async move {
                    let Ok(target) = seen.wait_for(Option::is_some).await.map(|t| t.unwrap())
                    else {
                        return;
                    };
                    let mut far = TcpStream::connect(target).await.unwrap();
                    drop(copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        Self { address, target, _tasks: tasks }
    }

    /// Sends the connections that come from now on elsewhere.
    pub(crate) fn turn(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }

    /// Accepts connections that come from now on and says nothing on them, until it is turned.
    pub(crate) fn hold(&self) {
        self.target.send_replace(None);
    }
}
