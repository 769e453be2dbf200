//! A server on small random models, and a client.

use kernels::{Cpu, CpuOptions, Precision, rng};
use lm::checkpoint::{self, About, BaseModel, Contents, Dtype, Stored, from_backend, from_host, save};
use lm::model::{Config, Linear, Lora, Spec, init, specs};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use text::progress::{Progress, Silent, Unit};
use text::tokenizer::Tokenizer;
use text::tokenizer::chat::with_ours;

use crate::{Capacity, Settings, Source, serve};

/// Positions of the models' context.
pub(super) const CONTEXT: usize = 300;

/// A server that ends with the test.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) models: TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

/// Stops when it is told.
struct Stop(Arc<AtomicBool>);

impl Progress for Stop {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A chat model's tokenizer, whose vocabulary has every byte and some words.
pub(super) fn tokenizer() -> Tokenizer {
    let documents = [
        "{\"name\": \"value\", \"n\": [1, 2]} true",
        "日本語 émoji 🙂 text that is text",
        "the cat and the dog",
    ];
    let trained = Tokenizer::train(documents.iter().map(|d| Ok(d.to_string())), 290, &[], &Silent).unwrap();
    with_ours(&trained).unwrap()
}

/// Writes a model that says anything, or scores it.
pub(super) fn write(dir: &Path, seed: u64, scores: bool, backend: &mut Cpu) {
    let tokenizer = tokenizer();
    let base = Config { d_ff: 64, ..Config::gpt2(tokenizer.vocab_size(), CONTEXT, 2, 2, 32) };
    let config = Config { n_label: scores.then_some(1), ..base };
    let weights = init(backend, &config, seed);
    let read = &mut from_backend(backend);
    let about = About { stage: if scores { "reward" } else { "sft" }.into(), step: 1, ..About::default() };
    let contents = Contents {
        config: &config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read,
        eot_token: tokenizer.end_of_text(),
        eos_token: tokenizer.eos(),
        end_tokens: &[],
        files: &tokenizer.files(),
        about,
    };
    save(dir, contents).unwrap();
}

/// Writes an adapter beside such a model, whose values change what it says, or with which it scores.
pub(super) fn write_adapter(dir: &Path, base: &Path, seed: u64, scores: bool) {
    let opened = checkpoint::open(base, &Silent).unwrap();
    let lora: Lora = "r=4,alpha=32,targets=all".parse().unwrap();
    let adapter = opened.fresh_adapter(&lora).unwrap();
    let mut weights = opened.weights(checkpoint::to_host).unwrap();
    let config = Config { n_label: scores.then_some(1), ..opened.config.clone() };
    let mut number = 0;
    let mut values = |spec: &Spec| -> Vec<f32> {
        number += 1;
        (0..spec.len() as u64).map(|i| rng::normal(seed, number, i) as f32 * 0.1).collect()
    };
    weights.adapter = Some(adapter.map(&mut values));
    weights.score = specs(&config).score.map(|score| Linear { weight: values(&score.weight), bias: None });
    let model = base.to_str().unwrap().to_owned();
    let base = BaseModel { model, revision: None, digest: opened.digest().unwrap() };
    let contents = Contents {
        config: &config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut from_host,
        eot_token: None,
        eos_token: None,
        end_tokens: &[],
        files: &[],
        about: About {
            stage: if scores { "reward" } else { "sft" }.into(),
            step: 1,
            base: Some(base),
            ..About::default()
        },
    };
    save(dir, contents).unwrap();
}

pub(super) fn cpu() -> Cpu {
    Cpu::new(CpuOptions { threads: 1, precision: Precision::F32, ..CpuOptions::default() })
}

impl Server {
    /// With the models `chat`, `other` and `reward`.
    pub(super) fn start(change: impl FnOnce(&mut Settings)) -> Server {
        Server::start_with(|_| Vec::new(), change)
    }

    /// With more models, which are written into the folder of the others.
    pub(super) fn start_with(
        more: impl FnOnce(&Path) -> Vec<Source>,
        change: impl FnOnce(&mut Settings),
    ) -> Server {
        let models = tempfile::tempdir().unwrap();
        let mut cpu = cpu();
        let mut sources: Vec<Source> = [("chat", 1, false), ("other", 2, false), ("reward", 3, true)]
            .into_iter()
            .map(|(name, seed, scores)| {
                let path = models.path().join(name);
                write(&path, seed, scores, &mut cpu);
                Source { name: name.into(), path }
            })
            .collect();
        sources.extend(more(models.path()));
        let capacity = Capacity { slots: 4, cache_bytes: None, stored: Stored::AsInFile };
        let mut settings = Settings { port: 0, capacity, arithmetic: "test".into(), ..Settings::default() };
        change(&mut settings);
        let (stop, (sender, ready)) = (Arc::new(AtomicBool::new(false)), channel());
        let asked = Stop(Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            serve(cpu, &sources, settings, &asked, |address| sender.send(address).unwrap())
        });
        let address = ready.recv_timeout(Duration::from_secs(30)).expect("the server listens");
        Server { address, models, stop, thread: Some(thread) }
    }

    /// Asks the server to stop.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until the server has stopped.
    pub(super) fn join(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Posts a body, which need not be JSON: status, headers as text, body.
    pub(super) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request = ureq::http::Request::builder().method(method).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let config = agent.configure_request(request.body(body.to_owned()).unwrap());
        let mut response = agent.run(config.allow_non_standard_methods(true).build()).unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        Reply { status, headers, body: response.body_mut().read_to_string().unwrap() }
    }

    /// Posts JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], &body.to_string())
    }

    /// The answer to JSON that must be right.
    pub(super) fn answer(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.body);
        reply.json()
    }

    pub(super) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "")
    }

    /// The events of a stream.
    pub(super) fn stream(&self, path: &str, body: &Value) -> Vec<String> {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.headers["content-type"], "text/event-stream; charset=utf-8");
        reply.events()
    }

    /// A figure of `/metrics`.
    pub(super) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
    }

    /// Waits until a figure has a value, at most a minute: how long that took.
    pub(super) fn wait_for(&self, name: &str, value: f64) -> Duration {
        let since = Instant::now();
        while self.metric(name) != value {
            assert!(since.elapsed() < Duration::from_secs(60), "{name} is {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(2));
        }
        since.elapsed()
    }

    /// A connection on which a request was written.
    pub(super) fn raw(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// The same of a client that reads nothing, and for whom little can wait.
    pub(super) fn asleep(&self, text: &str) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// A request as it is written.
    pub(super) fn head(&self, path: &str, body: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What came back.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: ureq::http::HeaderMap,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The data of a stream's events.
    pub(super) fn events(&self) -> Vec<String> {
        let events = self.body.split("\n\n").filter(|event| !event.is_empty());
        events.map(|event| event.split_once("data: ").expect("an event has data").1.to_owned()).collect()
    }
}

/// The head of a response that is read from a connection.
pub(super) fn read_head(stream: &mut TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    head
}

/// Reads until something was read; 0 at the end.
pub(super) fn read_some(stream: &mut TcpStream) -> usize {
    let mut buffer = [0; 64];
    stream.read(&mut buffer).unwrap_or(0)
}
