//! The road to a chat.

use std::io::IsTerminal;

use anyhow::Result;
use gpt::report::{
    ChatResults, Compared, Outcome, Stage, System, percent, percent_of, points_of, score_of, system_name,
};
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
    let compute = session.computes(Purpose::Training(&options.out))?;
    let machine = session.machine(&mut compute());
    let ChatOutcome { results, run, report } = chat_road(&compute, &machine, &options, session.watcher())?;
    let Some(results) = results else { return Ok(Ended::Stopped) };
    session.result(&to_json(&results), || describe(&results))?;
    session.say(&format!("the page about it: {}", report.display()));
    session.say(&format!("talk to it: mynah chat --model {}", run.display()));
    let (road, store) = (options.out.display(), options.out.join("feedback.db"));
    session.say(&format!(
        "choose, compare and rank its stages in a browser: mynah serve --model {road} --store {}, at http://127.0.0.1:8000",
        store.display()
    ));
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
        .map(|stage| {
            let Stage { name, secs, note, flops } = stage;
            (name.clone(), json!({ "secs": secs, "note": note, "flops": flops }))
        })
        .collect();
    let by_system = |figure: &dyn Fn(&System) -> Value| -> Map<String, Value> {
        results.systems.iter().map(|system| (system.name.clone(), figure(system))).collect()
    };
    let (before, after) = results.ppo_reward.unzip();
    json!({
        "stages": stages,
        "right": by_system(&|system| json!(system.right)),
        "gold": by_system(&|system| json!(system.gold)),
        "prompts": results.prompts,
        "systems": results.systems,
        "references": results.references,
        "compared": results.compared,
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
    let name = |system: &str| system_name(system).en;
    for tried in results.tried.iter().take(6) {
        let asked: Vec<String> =
            tried.messages.iter().map(|turn| turn.content.replace('\n', " / ")).collect();
        page += &format!("\n  {}\n", asked.join(" / "));
        for answer in &tried.answers {
            let mark = if answer.right { '✓' } else { '✗' };
            page += &format!("    {:<9} {mark} {}\n", name(&answer.system), answer.text.replace('\n', " / "));
        }
    }
    let heads = ["", "right answers", "judge's score", "reward", "KL", "beats SFT"].map(String::from);
    let row = |system: &System| {
        let System { name: model, right, gold, reward, kl, win_rate } = system;
        [
            name(model),
            percent_of(*right),
            score_of(*gold),
            format!("{:.3}", reward.value),
            kl.map_or(String::new(), |kl| format!("{kl:.2}")),
            win_rate.map_or(String::new(), |rate| percent(rate.value)),
        ]
    };
    let mut rows = vec![heads];
    rows.extend(results.systems.iter().chain(&results.references).map(row));
    page += &format!("\n{}\n", table(&rows));
    for Compared { model, than, right, .. } in &results.compared {
        let (outcome, points) = (Outcome::from(*right).text().en, points_of(*right));
        page +=
            &format!("{} against {}: {outcome}, {points} points of right answers\n", name(model), name(than));
    }
    if let Some(caveat) = results.caveat() {
        let longer = results.longer().map_or(String::new(), |command| format!(" More time: {command}"));
        page += &format!("\n{}{longer}\n", caveat.en);
    }
    page
}
