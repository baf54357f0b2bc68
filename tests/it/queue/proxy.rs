//! A TCP road to a server that can be made deaf, dumb, or cut.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the road does with the bytes of the server. Those of the client always pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Road {
    Open,
    /// They wait, as when an answer is on its way; connections are accepted all the same.
    Held,
    /// Every connection ends, and new ones end at once.
    Cut,
}

pub struct Proxy {
    pub address: SocketAddr,
    road: Arc<watch::Sender<Road>>,
}

impl Proxy {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let road = Arc::new(watch::Sender::new(Road::Open));
        let gate = Arc::clone(&road);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let gate = gate.subscribe();
                tokio::spawn(carry(client, server, gate));
            }
        });
        Self { address, road }
    }

    pub fn set(&self, road: Road) {
        self.road.send_replace(road);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, gate: watch::Receiver<Road>) {
    let mut cut = gate.clone();
    let both = async {
        let server = TcpStream::connect(server).await?;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let back = async {
            let mut bytes = vec![0; 16 * 1024];
            loop {
                let count = from_server.read(&mut bytes).await?;
                let road = gate.clone().wait_for(|road| *road != Road::Held).await.map_or(Road::Cut, |road| *road);
                if count == 0 || road == Road::Cut {
                    return Ok(0);
                }
                to_client.write_all(&bytes[..count]).await?;
            }
        };
        // Either side's end ends both.
        tokio::select! {
            there = tokio::io::copy(&mut from_client, &mut to_server) => there,
            back = back => back,
        }
    };
    tokio::select! {
        _ = both => {}
        _ = cut.wait_for(|road| *road == Road::Cut) => {}
    }
}
