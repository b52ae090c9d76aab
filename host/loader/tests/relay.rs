//! The relay as a client sees it, with a scripted worker behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrysalis_loader::relay::{RelayLimits, relay};
use chrysalis_loader::{Phase, StateDir, SupervisorEvent, Timing};
use common::{READY, Rig, quick, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// A relay to a worker that is a socket of this test.
async fn relay_to(worker: &TcpListener, limits: RelayLimits) -> (SocketAddr, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let public = listener.local_addr().unwrap();
    let (target, receiver) = watch::channel(Some(worker.local_addr().unwrap()));
    tokio::spawn(relay(listener, receiver, limits));
    (public, target)
}

type Target = watch::Sender<Option<SocketAddr>>;

fn limits() -> RelayLimits {
    RelayLimits {
        connections: 2,
        first_byte: Duration::from_secs(20),
        idle: Duration::from_secs(20),
    }
}

async fn echo(worker: TcpListener) {
    loop {
        let (mut stream, _) = worker.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
    }
}

#[tokio::test]
async fn carries_a_mebibyte_both_ways_and_the_half_close_too() {
    let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (public, _target) = relay_to(&worker, limits()).await;
    tokio::spawn(echo(worker));
    let sent: Vec<u8> = (0..1_048_576u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = TcpStream::connect(public).await.unwrap().into_split();
    let writer = {
        let sent = sent.clone();
        tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            // The echo ends only after our end arrived: the half-close went through.
            write.shutdown().await.unwrap();
            write
        })
    };
    let mut got = Vec::new();
    within(read.read_to_end(&mut got)).await.unwrap();
    assert!(got == sent, "{} of {} bytes came back intact", got.len(), sent.len());
    writer.await.unwrap();
}

#[tokio::test]
async fn one_connection_over_the_limit_is_closed_and_a_freed_place_is_used() {
    let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (public, _target) = relay_to(&worker, limits()).await;
    tokio::spawn(echo(worker));
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(public).await.unwrap();
        ping(&mut client).await.unwrap();
        open.push(client);
    }
    assert!(ping(&mut TcpStream::connect(public).await.unwrap()).await.is_err());
    drop(open.pop());
    let freed = async {
        while ping(&mut TcpStream::connect(public).await.unwrap()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(freed).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_a_busy_one_is_not() {
    let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let idle = Duration::from_millis(400);
    let (public, _target) = relay_to(&worker, RelayLimits { idle, ..limits() }).await;
    tokio::spawn(echo(worker));
    let mut busy = TcpStream::connect(public).await.unwrap();
    let mut silent = TcpStream::connect(public).await.unwrap();
    ping(&mut silent).await.unwrap();
    for _ in 0..8 {
        ping(&mut busy).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ping(&mut silent).await.is_err());
    ping(&mut busy).await.unwrap();
}

#[tokio::test]
async fn a_client_that_never_speaks_loses_its_place() {
    let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first_byte = Duration::from_millis(200);
    let (public, _target) = relay_to(&worker, RelayLimits { first_byte, ..limits() }).await;
    tokio::spawn(echo(worker));
    let mut mute = TcpStream::connect(public).await.unwrap();
    let mut spoken = TcpStream::connect(public).await.unwrap();
    ping(&mut spoken).await.unwrap();
    assert_eq!(within(mute.read(&mut [0u8; 1])).await.unwrap_or(0), 0);
    ping(&mut spoken).await.unwrap();
}

#[tokio::test]
async fn without_a_worker_a_connection_is_closed_at_once() {
    let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (public, target) = relay_to(&worker, limits()).await;
    target.send_replace(None);
    assert!(ping(&mut TcpStream::connect(public).await.unwrap()).await.is_err());
}

#[tokio::test]
async fn connections_of_the_old_worker_end_when_a_new_one_takes_over() {
    let worker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (public, target) = relay_to(&worker, limits()).await;
    tokio::spawn(echo(worker));
    let mut client = TcpStream::connect(public).await.unwrap();
    ping(&mut client).await.unwrap();
    let next = TcpListener::bind("127.0.0.1:0").await.unwrap();
    target.send_replace(Some(next.local_addr().unwrap()));
    assert!(ping(&mut client).await.is_err());
    tokio::spawn(echo(next));
    ping(&mut TcpStream::connect(public).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_worker_killed_mid_stream_closes_its_clients_connection() {
    // The scripted worker's socket belongs to the test and stays open, so only the supervisor
    // can be the one that closes the connection.
    let rig = Rig::new(&format!("echo $$ > {{dir}}/pid\n{READY}\nexec /bin/sleep 600"));
    let timing = Timing {
        first_delay: Duration::from_secs(60),
        max_delay: Duration::from_secs(60),
        ..quick()
    };
    let mut run = rig.start(timing);
    run.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    let mut client = TcpStream::connect(rig.last_run().listen).await.unwrap();
    client.write_all(b"prompt").await.unwrap();
    let worker = rig.worker_listener.try_clone().unwrap();
    worker.set_nonblocking(true).unwrap();
    let worker = TcpListener::from_std(worker).unwrap();
    let (mut served, _) = within(worker.accept()).await.unwrap();
    served.write_all(b"half an ans").await.unwrap();
    let mut buffer = [0u8; 64];
    assert_eq!(within(client.read(&mut buffer)).await.unwrap(), 11);
    let pid = std::fs::read_to_string(rig.dir().join("pid")).unwrap();
    std::process::Command::new("/bin/kill").args(["-9", pid.trim()]).status().unwrap();
    // The end of the stream or a reset, but never more bytes and never silence.
    assert_eq!(within(client.read(&mut buffer)).await.unwrap_or(0), 0);
    run.stop().await.unwrap();
}

async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut byte = [0u8; 1];
    stream.write_all(b"x").await?;
    within(stream.read_exact(&mut byte)).await?;
    Ok(())
}

/// A worker that serves before it is told what it is owed begins to count at zero.
#[tokio::test]
async fn carries_the_first_byte_only_after_the_worker_was_told_what_comes_first() {
    let rig = Rig::new(&format!("{READY}\nexec /bin/sleep 60"));
    rig.worker_listener.set_nonblocking(true).unwrap();
    let worker = TcpListener::from_std(rig.worker_listener.try_clone().unwrap()).unwrap();
    let address = worker.local_addr().unwrap();
    tokio::spawn(echo(worker));
    let (tell, told) = watch::channel(false);
    let mut run = rig.start_after(quick(), move |to| {
        assert_eq!(to, address);
        let mut told = told.clone();
        Box::pin(async move { drop(told.wait_for(|told| *told).await) })
    });
    let public = common::supervised(&mut run).await;
    common::eventually("the worker listens", || {
        StateDir::at(&rig.state())
            .read_run()
            .is_ok_and(|run| run.is_some_and(|run| run.phase == Phase::Ready))
    })
    .await;
    let mut early = TcpStream::connect(public).await.unwrap();
    assert_eq!(within(early.read(&mut [0; 1])).await.unwrap(), 0, "closed at once");
    tell.send_replace(true);
    run.until(|event| matches!(event, SupervisorEvent::Ready { .. })).await;
    let mut client = TcpStream::connect(public).await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(within(client.read(&mut [0; 1])).await.unwrap(), 1);
    run.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_cannot_be_told_in_time_is_served_and_told_nevertheless() {
    let rig = Rig::new(&format!("{READY}\nexec /bin/sleep 60"));
    let timing = Timing { prelude: Duration::from_millis(50), ..quick() };
    // What it is told waits until the relay is open, which would be for ever if it were given up.
    let opened = Arc::new(Notify::new());
    let until = Arc::clone(&opened);
    let mut run = rig.start_after(timing, move |_| {
        let until = Arc::clone(&until);
        Box::pin(async move { until.notified().await })
    });
    run.until(|event| matches!(event, SupervisorEvent::Ready { .. })).await;
    let log = || std::fs::read_to_string(StateDir::at(&rig.state()).loader_log()).unwrap();
    assert!(log().contains("took too long to be told"), "{}", log());
    opened.notify_one();
    while !log().contains("told what it is owed, late") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    run.stop().await.unwrap();
}
