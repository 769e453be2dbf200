//! The road to a chat.

use std::io::IsTerminal;

use anyhow::Result;
use gpt::report::{ChatResults, System};
use gpt::stage::{ChatOptions, ChatOutcome, chat_road};
use serde_json::{Map, Value, json};

use super::{OUT, SpeedrunArgs};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::table;

pub(super) fn run(args: &SpeedrunArgs, scale: &str, session: &Session) -> Result<Ended> {
    let options = ChatOptions {
        out: args.out.clone().unwrap_or_else(|| OUT.into()),
        scale: scale.to_owned(),
        budget: args.budget()?,
        seed: session.seed(),
        threads: session.threads(),
    };
    let cpu = || session.cpu(Purpose::Training(&options.out));
    let machine = session.machine(&mut cpu());
    let ChatOutcome { results, run, report } = chat_road(&cpu, &machine, &options, session.watcher())?;
    let Some(results) = results else { return Ok(Ended::Stopped) };
    session.result(&to_json(&results), || describe(&results))?;
    session.say(&format!("the page about it: {}", report.display()));
    session.say(&format!("talk to it: mynah chat --model {}", run.display()));
    if !args.no_chat && !session.json() && std::io::stdin().is_terminal() {
        session.say("");
        crate::verbs::chat::talk_to(&run, session)?;
    }
    Ok(Ended::Done)
}

fn to_json(results: &ChatResults) -> Value {
    let stages: Map<String, Value> = results
        .stages
        .iter()
        .map(|stage| (stage.name.clone(), json!({ "secs": stage.secs, "note": stage.note })))
        .collect();
    let gold: Map<String, Value> =
        results.systems.iter().map(|system| (system.name.clone(), json!(system.gold))).collect();
    let (before, after) = results.ppo_reward.unzip();
    json!({
        "stages": stages,
        "gold": gold,
        "systems": results.systems,
        "reward_model": {
            "pair_accuracy": results.pair_accuracy.map(|rate| rate.value),
            "low": results.pair_accuracy.map(|rate| rate.low),
            "high": results.pair_accuracy.map(|rate| rate.high),
            "ceiling": results.ceiling,
            "noise": results.noise,
        },
        "ppo": { "kl": results.ppo_kl, "reward_before": before, "reward_after": after },
    })
}

fn describe(results: &ChatResults) -> String {
    let mut page = String::new();
    for tried in results.tried.iter().take(6) {
        page += &format!("\n  {}\n", tried.prompt.replace('\n', " / "));
        for answer in &tried.answers {
            page += &format!("    {:<5} {}\n", answer.system, answer.text.replace('\n', " / "));
        }
    }
    let heads = ["", "gold score", "95 % interval", "reward", "KL", "wins against sft"].map(String::from);
    let row = |system: &System| {
        let System { name, gold, reward, kl, win_rate } = system;
        [
            name.clone(),
            format!("{:.3}", gold.value),
            format!("{:.3} – {:.3}", gold.low, gold.high),
            format!("{:.3}", reward.value),
            kl.map_or(String::new(), |kl| format!("{kl:.2}")),
            win_rate.map_or(String::new(), |rate| format!("{:.0} %", 100.0 * rate.value)),
        ]
    };
    let mut rows = vec![heads];
    rows.extend(results.systems.iter().map(row));
    page += &format!("\n{}", table(&rows));
    if let Some(caveat) = results.caveat() {
        page += &format!("\n{caveat}\n");
    }
    page
}
