use super::*;
use crate::report::tests::check;

fn system(name: &str, right: u64, gold: f64) -> System {
    let gold = Interval { value: gold, low: gold - 0.05, high: gold + 0.05 };
    let (right, reward) = (Rate::wilson(right, 40), Interval { value: -0.5, low: -0.6, high: 0.1 });
    System { name: name.into(), right, gold, reward, kl: None, win_rate: None }
}

fn compared(model: &str, low: f64, high: f64) -> Compared {
    let right = Interval { value: f64::midpoint(low, high), low, high };
    Compared { model: model.into(), than: "sft".into(), right, gold: right }
}

fn results() -> ChatResults {
    let answer = |system: &str, text: &str, right| Answer {
        system: system.into(),
        text: text.into(),
        right,
        gold: f64::from(u8::from(right)),
    };
    let stage = |name: &str, flops| Stage { name: name.into(), secs: 61.0, note: "noted".into(), flops };
    ChatResults {
        scale: "laptop".into(),
        minutes: Some(10.0),
        stages: vec![stage("lessons", None), stage("pretrain", Some(2.94e13)), stage("ppo", Some(1e12))],
        prompts: 40,
        systems: vec![
            system("base", 2, 0.3),
            system("sft", 20, 0.5),
            system("ppo", 25, 0.6),
            system("best of 8", 25, 0.6),
        ],
        references: vec![system("empty", 0, 0.0), system("shuffled", 3, 0.4), system("perfect", 40, 1.0)],
        compared: vec![
            compared("ppo", 0.05, 0.2),
            compared("dpo", -0.2, -0.05),
            compared("best of 8", -0.05, 0.1),
        ],
        frontier: vec![FrontierPoint { step: 1.0, kl: 0.25, reward: 0.5, gold: 0.6 }],
        tried: vec![Tried {
            messages: vec![Turn { role: "user".into(), content: "What is 2 + 3?".into() }],
            expected: "It is 5.".into(),
            answers: vec![
                answer("base", "6 <b>", false),
                answer("sft", "It is 5.", true),
                answer("dpo", "", false),
            ],
        }],
        ..ChatResults::default()
    }
}

#[test]
fn a_difference_is_told_by_its_interval() {
    let outcome = |low, high| Outcome::from(Interval { value: f64::midpoint(low, high), low, high });
    assert_eq!(outcome(0.001, 0.2), Outcome::Better);
    assert_eq!(outcome(-0.2, -0.001), Outcome::Worse);
    for (low, high) in [(-0.01, 0.3), (-0.3, 0.01), (0.0, 0.3), (-0.3, 0.0), (0.0, 0.0)] {
        assert_eq!(outcome(low, high), Outcome::Even, "{low} to {high}");
    }
}

#[test]
fn a_gain_that_may_be_chance_is_called_one() {
    let road = |low| ChatResults { compared: vec![compared("ppo", low, 0.2)], ..results() };
    assert_eq!(road(0.01).caveat(), None);
    let caveat = road(-0.01).caveat().unwrap();
    assert!(caveat.en.contains("more than chance") && caveat.zh.contains("偶然"), "{caveat:?}");
    assert_eq!(road(-0.01).longer().unwrap(), "mynah speedrun --minutes 30 --out runs/longer");
    assert_eq!(ChatResults::default().caveat(), None, "nothing was compared");
}

#[test]
fn the_page_tells_what_was_done_what_it_cost_and_what_got_better() {
    let dir = tempfile::tempdir().unwrap();
    let page = page(dir.path(), &results());
    check(&page);
    for told in [
        "PPO against SFT: better",
        "DPO against SFT: worse",
        "best of 8 against SFT: no difference that is more than chance",
        "8 选 1 对 SFT：没有超出偶然的差别",
        "Right answers: 50.0\u{a0}% → 62.5\u{a0}%.",
        "+12.5\u{a0}(+5.0\u{a0}…\u{a0}+20.0) percentage points",
        "50.0 % (35.2–64.8)",
        "−0.500 (−0.600 … 0.100)",
        "answers to other prompts",
        "2.9 × 10¹³ operations",
        "1 min 01 s",
        "6 &lt;b&gt;",
    ] {
        assert!(page.contains(told), "{told}");
    }
    let prompt = page.split("What is 2 + 3?").nth(1).unwrap().split("</article>").next().unwrap();
    assert!(prompt.contains("It is 5.") && prompt.contains(">right is</span>"), "the expected answer");
    let marks: Vec<&str> =
        prompt.split("aria-hidden=\"true\" translate=\"no\">").skip(1).map(|rest| &rest[..3]).collect();
    assert_eq!(marks, ["✗", "✓", "✗"]);
    let columns: Vec<usize> = [">right answers</span>", ">judge&#39;s score</span>", ">reward</span>"]
        .map(|head| page.find(head).unwrap())
        .into();
    assert!(columns.is_sorted(), "right answers first");
}

/// The page can be written again from what lies in the road's directory.
#[test]
fn results_come_back_from_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = crate::train::run::Recipe::new(crate::report::CHAT_ROAD, toml::Table::new());
    recipe.runtime.insert("command".into(), "mynah speedrun --no-chat".into());
    std::fs::write(dir.path().join("config.toml"), toml::to_string(&recipe).unwrap()).unwrap();
    let written = std::fs::read_to_string(write_road(dir.path(), &results()).unwrap()).unwrap();
    assert!(written.contains("mynah speedrun --no-chat"));
    let again = std::fs::read_to_string(crate::report::write(dir.path()).unwrap()).unwrap();
    assert_eq!(again, written);
    std::fs::write(dir.path().join(RESULTS), "{}").unwrap();
    let error = format!("{:#}", crate::report::write(dir.path()).unwrap_err());
    assert!(error.contains("walk the road again"), "{error}");
}

#[test]
fn a_road_that_was_stopped_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let results = ChatResults { stages: results().stages, ..ChatResults::default() };
    let page = page(dir.path(), &results);
    check(&page);
    assert!(page.contains("not walked to its end") && page.contains("mynah speedrun --out"));
    assert!(!page.contains("All models"));
}
