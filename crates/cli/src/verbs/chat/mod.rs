//! `mynah chat`: a conversation at the terminal, or line by line from a program.

mod command;

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gpt::chat::{Answer, Chat, Tools};
use gpt::complete::Options;
use gpt::data::messages::{Message, Role};
use gpt::model::{Finish, NotFinite, Sampling};
use gpt::progress::Progress;
use gpt::tools::Toolbox;
use kernels::Backend;
use serde_json::{Map, Value, json};

use self::command::{COMMANDS, Command, HELP};
use super::AdapterArg;
use super::complete::{Model, SamplingArgs, reason, stops};
use super::tools::ToolArgs;
use crate::options::{WeightsArg, whole};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::plural;
use crate::terminal::{Asking, Input, Typed, print, print_json};

const EXAMPLES: &str = "\
Every line is a message. Lines that begin with a / are commands; /help lists them. At a terminal lines are edited as in a
shell: a line that ends with a \\ goes on with the next, pasted lines stay together, ↑ brings back what was said, also in
earlier sessions (~/.local/state/mynah/chat-history; MYNAH_HISTORY=FILE keeps it elsewhere, MYNAH_HISTORY= nowhere). Ctrl-C
stops an answer or clears the line, Ctrl-D ends.

Examples:
  mynah chat --model runs/sft
  mynah chat --model hf:HuggingFaceTB/SmolLM2-135M-Instruct --system 'Answer in one sentence.'
  mynah chat --model runs/sft --tool calculator
  printf 'What is the capital of France?\\nAnd of Spain?\\n' | mynah chat --model runs/sft --temperature 0 --json";

/// Where the model's files do not say it: a small model's likeliest words are its best (`docs/LOG.md`).
const TEMPERATURE: f32 = 0.0;

/// Talk with a model that has learned to answer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChatArgs {
    /// A run directory, a checkpoint, a Hugging Face model directory, a GGUF file, or hf:OWNER/NAME
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) adapter: AdapterArg,
    #[command(flatten)]
    weights: WeightsArg,
    /// What holds for the whole conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Tokens of an answer at most [default: what the model's files say, else 256]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..))]
    max_tokens: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    tools: ToolArgs,
    /// End an answer before this text; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
}

pub(crate) fn run(args: &ChatArgs, session: &Session) -> Result<Ended> {
    let model = Model::load_stored(&args.model, args.weights, Purpose::Text, session)?;
    let options = Options {
        max_tokens: args.max_tokens.or(model.generation.writing.max_tokens).unwrap_or(256),
        sampling: args.sampling.resolve(&model.generation, TEMPERATURE, session),
        stop: stops(&args.stop, &model.generation),
        suffix: None,
        task: None,
    };
    let tools = args.tools.open()?;
    talk(model, args.system.as_deref().unwrap_or(""), options, tools, session)
        .with_context(|| format!("cannot chat with {}", args.model.display()))?;
    Ok(Ended::Done)
}

/// Talks with the model of `path` as `mynah chat` does by itself, cooler than it was trained.
pub(crate) fn talk_to(path: &Path, session: &Session) -> Result<()> {
    const TEMPERATURE: f32 = 0.5;
    let sampling = Sampling { temperature: TEMPERATURE, top_k: 0, top_p: 1.0, seed: session.seed() };
    let options = Options { max_tokens: 64, sampling, stop: Vec::new(), suffix: None, task: None };
    talk(Model::load(path, Purpose::Text, session)?, "", options, None, session)
}

/// Talks with a model until somebody has enough.
fn talk(
    model: Model,
    system: &str,
    options: Options,
    tools: Option<Toolbox>,
    session: &Session,
) -> Result<()> {
    let Model { mut compute, config, weights, tokenizer, .. } = model;
    let chat = Chat::new(&mut compute, &config, &weights, &tokenizer)?;
    // It has a copy of its own.
    drop(weights);
    let tools = tools.map(|tools| chat.check_tools().map(|()| Shown { tools, session })).transpose()?;
    let mut talk = Talk { chat, tools, options, session, messages: Vec::new(), answers: 0, told: 0 };
    talk.print_notes();
    talk.set_system(system);
    if std::io::stdin().is_terminal() {
        session.say("Say something; /help lists the commands.");
    }
    talk.listen()
}

/// Tools whose calls are shown.
struct Shown<'a> {
    tools: Toolbox,
    session: &'a Session,
}

impl Tools for Shown<'_> {
    fn descriptions(&self) -> &Value {
        self.tools.descriptions()
    }

    fn max_rounds(&self) -> usize {
        self.tools.max_rounds()
    }

    fn call(&self, name: &str, arguments: &Value) -> Result<String> {
        let returned = self.tools.call(name, arguments)?;
        let given: Vec<_> = arguments.as_object().into_iter().flat_map(Map::values).map(plain).collect();
        self.session.say(&format!("{name}({}) → {returned}", given.join(", ")));
        Ok(returned)
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A conversation and how it goes on.
struct Talk<'a, B: Backend> {
    chat: Chat<'a, B>,
    tools: Option<Shown<'a>>,
    options: Options,
    session: &'a Session,
    messages: Vec<Message>,
    /// Answers drawn so far, those that were thrown away included.
    answers: u64,
    /// How many notes on the chat template were told.
    told: usize,
}

impl<B: Backend> Talk<'_, B> {
    fn listen(&mut self) -> Result<()> {
        let terminal = self.session.watcher();
        let mut input = Input::open(Asking { prompt: "› ", is_chat: true, commands: COMMANDS })?;
        loop {
            terminal.stop_at_once();
            let line = match input.next()? {
                Typed::Line(line) => line,
                Typed::Nothing => {
                    self.session.terminal().once("Ctrl-D or /quit leaves");
                    continue;
                }
                Typed::End => return Ok(()),
            };
            match Command::of(&line) {
                Command::Say(text) => {
                    self.messages.push(Message::new(Role::User, text));
                    self.answer()?;
                }
                Command::Retry => match self.messages.last() {
                    Some(Message { role: Role::Assistant, .. }) => {
                        let asked = self.messages.iter().rposition(|message| message.role == Role::User);
                        self.messages.truncate(asked.map_or(0, |at| at + 1));
                        if self.options.sampling.temperature == 0.0 {
                            let hint =
                                "at temperature 0 the answer stays the same: /temperature 0.8 draws others";
                            self.session.say(hint);
                        }
                        self.answer()?;
                    }
                    _ => self.session.say("there is no answer yet"),
                },
                Command::System(text) => self.set_system(text),
                Command::Reset => self.messages.retain(|message| message.role == Role::System),
                Command::Save(path) => match self.save(path) {
                    Ok(()) => self.session.say(&format!("→ {path}")),
                    Err(error) => self.session.say(&format!("{error:#}")),
                },
                Command::Temperature(value) => self.options.sampling.temperature = value,
                Command::Help => self.session.say(HELP),
                Command::Quit => return Ok(()),
                Command::Nothing(why) => why.iter().for_each(|why| self.session.say(why)),
            }
        }
    }

    /// Tells what there is to know of the chat template, once.
    fn print_notes(&mut self) {
        let notes = self.chat.notes();
        notes.iter().skip(self.told).for_each(|note| self.session.say(&format!("note: {note}")));
        self.told = self.told.max(notes.len());
    }

    /// Answers the last message. A message that cannot be answered is taken back, and the conversation goes
    /// on.
    fn answer(&mut self) -> Result<()> {
        let Talk { chat, tools, options, session, messages, answers, .. } = self;
        let (terminal, json) = (session.watcher(), session.json());
        terminal.listen_again();
        let mut heard = Ok(());
        let has_tools = tools.is_some();
        let tools = tools.as_ref().map(|tools| tools as &dyn Tools);
        let answer = chat.answer_with(tools, messages, *answers, options, |text| {
            if !json {
                heard = print(text.as_bytes());
            }
            match heard.is_ok() && !terminal.is_interrupted() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        heard?;
        let Answer { messages: said, tokens, finish, left_out_messages } = match answer {
            Ok(answer) => answer,
            // Not this message is at fault but the model: it answers none.
            Err(error) if error.chain().any(|cause| cause.is::<NotFinite>()) => return Err(error),
            Err(error) => {
                messages.pop();
                return match json {
                    true => print_json(&json!({ "error": format!("{error:#}") })),
                    false => {
                        session.say(&format!("{error:#}"));
                        Ok(())
                    }
                };
            }
        };
        *answers += 1;
        match json {
            true => {
                let mut line = json!({
                    "message": said.last(),
                    "tokens": tokens,
                    "finish_reason": reason(finish),
                    "left_out_messages": left_out_messages,
                });
                if has_tools {
                    line["messages"] = json!(said);
                }
                print_json(&line)?;
            }
            false => print(b"\n")?,
        }
        messages.extend(said);
        if terminal.is_interrupted() {
            session.say("stopped");
        } else if finish == Finish::Length {
            let tokens = plural(tokens.len() as u64, "token");
            session.say(&format!(
                "note: the answer was cut after {tokens}: --max-tokens or the context allow no more"
            ));
        }
        if left_out_messages > 0 {
            self.session.say(&format!(
                "note: the conversation is longer than the context: its first {} left out",
                match left_out_messages {
                    1 => "message was".to_string(),
                    n => format!("{} were", plural(n as u64, "message")),
                }
            ));
        }
        self.print_notes();
        Ok(())
    }

    fn set_system(&mut self, text: &str) {
        self.messages.retain(|message| message.role != Role::System);
        if !text.is_empty() {
            self.messages.insert(0, Message::new(Role::System, text));
        }
    }

    /// Appends the conversation to a file of demonstrations.
    fn save(&self, path: &str) -> Result<()> {
        let is_answered = self.messages.last().is_some_and(|message| message.role == Role::Assistant);
        anyhow::ensure!(is_answered, "there is no answer yet");
        let mut row = json!({ "messages": self.messages });
        if let Some(tools) = &self.tools {
            row["tools"] = tools.descriptions().clone();
        }
        let line = row.to_string() + "\n";
        let file = OpenOptions::new().create(true).append(true).open(path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.with_context(|| format!("cannot write {path}"))
    }
}
