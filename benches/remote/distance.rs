//! A line to a server that is far away: every byte arrives so much later, in both directions.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Pieces that are on their way in one direction of a connection; 4 MiB.
const UNDER_WAY: usize = 64;

/// Hands connections on to `to`, each byte `one_way` later. Until the process ends.
pub fn between(to: SocketAddr, one_way: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(to) else { continue };
            for (from, to) in [(&near, &far), (&far, &near)] {
                let _ = (from.set_nodelay(true), to.set_nodelay(true));
                let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                let (sender, receiver) = sync_channel(UNDER_WAY);
                std::thread::spawn(move || take(from, one_way, &sender));
                std::thread::spawn(move || give(to, &receiver));
            }
        }
    });
    address
}

fn take(mut from: TcpStream, one_way: Duration, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut piece).unwrap_or(0);
        // An empty piece is the end.
        if sender.send((Instant::now() + one_way, piece[..read].to_vec())).is_err() || read == 0 {
            return;
        }
    }
}

fn give(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    for (at, piece) in receiver {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if piece.is_empty() || to.write_all(&piece).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}
