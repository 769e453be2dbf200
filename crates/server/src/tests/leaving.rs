//! Clients that go away.

use super::answers::{CHAT, question};
use super::fixture::{Server, read_some, tokenizer};
use serde_json::{Map, Value, json};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// Long answers: many choices of a model that has one slot. None ends early, so that they are more than sockets hold.
pub(super) fn long(stream: bool) -> Value {
    let never: Map<String, Value> =
        tokenizer().end_tokens().iter().map(|id| (id.to_string(), json!(-100))).collect();
    question(json!({
        "n": 16, "max_tokens": 290, "logit_bias": never, "stream": stream, "logprobs": true, "top_logprobs": 20,
    }))
}

/// How a client goes away.
type Leave = fn(TcpStream);

/// Closes with RST instead of FIN.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let server = Server::start(|settings| settings.capacity.slots = 1);
    let leave: [(&str, Leave); 3] = [
        ("FIN", |stream| drop(stream)),
        ("RST", reset),
        ("half-close", |stream| {
            stream.shutdown(Shutdown::Write).unwrap();
            // Kept open by somebody who only reads.
            std::thread::sleep(Duration::from_millis(300));
        }),
    ];
    let mut left = 0.0;
    for streams in [true, false] {
        for (name, leave) in leave {
            for pipelined in [false, true] {
                let request = server.head(CHAT, &long(streams).to_string());
                let second = if pipelined { request.clone() } else { String::new() };
                let mut stream = server.raw(&(request + &second));
                server.wait_for("mynah_running", 1.0);
                if streams {
                    assert!(read_some(&mut stream) > 0);
                }
                leave(stream);
                let took = server.wait_for("mynah_running", 0.0) + server.wait_for("mynah_waiting", 0.0);
                let what = format!("{name}, streams {streams}, pipelined {pipelined}");
                assert!(took < Duration::from_secs(10), "{what}: {took:?}");
                let now = server.metric("mynah_left_total");
                assert!(now > left, "{what}: they came to their end instead");
                left = now;
            }
        }
    }
    assert_eq!(server.post(CHAT, &question(json!({ "max_tokens": 3 }))).status, 200);
}

#[test]
fn who_leaves_the_queue_is_never_computed() {
    let server = Server::start(|settings| settings.capacity.slots = 1);
    let holding = server.raw(&server.head(CHAT, &long(true).to_string()));
    server.wait_for("mynah_running", 1.0);
    let waiting = server.metric("mynah_waiting");
    let one = question(json!({ "max_tokens": 290 })).to_string();
    let queued: Vec<TcpStream> = (0..20).map(|_| server.raw(&server.head(CHAT, &one))).collect();
    while server.metric("mynah_waiting") < waiting + 5.0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(queued);
    drop(holding);
    server.wait_for("mynah_running", 0.0);
    server.wait_for("mynah_waiting", 0.0);
    assert!(server.metric("mynah_left_total") > 0.0);
}

#[test]
fn a_reader_who_does_not_read_harms_nobody() {
    let server = Server::start(|settings| settings.capacity.slots = 2);
    let asleep = server.asleep(&server.head(CHAT, &long(true).to_string()));
    server.wait_for("mynah_running", 2.0);
    // Its slots stay taken, and nothing more is drawn for it once it has enough to read.
    let counts = || ["mynah_running", "mynah_waiting"].map(|name| server.metric(name));
    let mut before = counts();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = counts();
        if std::mem::replace(&mut before, now) == now {
            break;
        }
    }
    assert!(before[0] == 2.0 && before[1] > 0.0, "it is computed to its end: {before:?}");
    // The other model is not held up.
    let mut body = question(json!({ "max_tokens": 3 }));
    body["model"] = "other".into();
    assert_eq!(server.post(CHAT, &body).status, 200);
    drop(asleep);
    server.wait_for("mynah_running", 0.0);
    assert_eq!(server.post(CHAT, &question(json!({ "max_tokens": 3 }))).status, 200);
}
