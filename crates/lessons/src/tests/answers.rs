//! The judge likes what is right and dislikes what is not, for every task in both languages.

use super::*;

fn every_lesson(mut check: impl FnMut(Draw, Lesson)) {
    for (task, language) in Task::ALL.into_iter().flat_map(|task| Language::ALL.map(|l| (task, l))) {
        lessons(task, language).for_each(|(draw, lesson)| check(draw, lesson));
    }
}

#[test]
fn perfect_answers_score_one() {
    every_lesson(|_, lesson| {
        let verdict = judge(&lesson.key, &lesson.key.answer);
        assert!(verdict.score() > 1.0 - 1e-9, "{lesson:?}\n{verdict:?}");
        // Case, and a full stop where none is needed, do not matter.
        let told = lesson.key.answer.trim_end_matches(['.', '。']).to_lowercase() + ".";
        let verdict = judge(&lesson.key, &told);
        assert!(
            verdict.score() > 1.0 - 1e-9 || lesson.key.task == Task::Code,
            "{told}: {lesson:?}\n{verdict:?}"
        );
    });
}

#[test]
fn wrong_answers_are_wrong_and_nothing_else() {
    every_lesson(|_, lesson| {
        let verdict = judge(&lesson.key, &lesson.wrong);
        assert!(!verdict.correct, "{lesson:?}");
        assert!(verdict.score() <= 0.5 + 1e-9 && verdict.score() > 0.3, "{lesson:?}\n{verdict:?}");
    });
}

#[test]
fn each_flaw_costs_what_a_reader_would_notice() {
    every_lesson(|draw, lesson| {
        for flaw in Flaw::ALL {
            let answer = flaw.answer(&mut draw.clone(), &lesson);
            let verdict = judge(&lesson.key, &answer);
            assert!(verdict.score() < 0.945, "{flaw:?} {answer}: {lesson:?}\n{verdict:?}");
            match flaw {
                Flaw::Wordy => assert!(verdict.brevity < 0.75 && verdict.correct, "{answer}\n{verdict:?}"),
                Flaw::Foreign => assert!(verdict.language < 0.7, "{answer}: {lesson:?}\n{verdict:?}"),
                Flaw::Untidy => assert!(verdict.form < 1.0, "{answer}: {lesson:?}\n{verdict:?}"),
                Flaw::Wrong => {}
            }
        }
    });
}

#[test]
fn nothing_can_be_gained_by_saying_nothing_or_everything() {
    every_lesson(|_, lesson| {
        let Lesson { key, wrong, .. } = &lesson;
        assert_eq!(judge(key, "").score(), 0.0);
        assert_eq!(judge(key, " ?! ").score(), 0.0);
        let babble = [key.answer.as_str(); 8].join(" ");
        assert!(judge(key, &babble).score() < 0.85, "{babble}");
        // Both alternatives in one breath do not make it right where one has to choose.
        if !key.reject.is_empty()
            && key.reject.iter().all(|other| wrong.to_lowercase().contains(other.as_str()))
        {
            assert!(!judge(key, &format!("{} {wrong}", key.answer)).correct, "{lesson:?}");
        }
    });
}

fn key(task: Task, language: Language, answer: &str) -> AnswerKey {
    AnswerKey { task, language, answer: answer.into(), accept: vec![], reject: vec![] }
}

#[test]
fn what_counts_as_right() {
    use Language::{Chinese, English};
    let correct = |key: &AnswerKey, answer: &str| judge(key, answer).correct;
    let sum = AnswerKey { accept: vec!["22".into()], ..key(Task::Arithmetic, English, "17 + 5 = 22") };
    for (answer, right) in
        [("22", true), ("It is 22.", true), ("22 + 5 = 27", false), ("122", false), ("17 + 5", false)]
    {
        assert_eq!(correct(&sum, answer), right, "{answer}");
    }
    let row = key(Task::Sorting, English, "2, 5, 9");
    for (answer, right) in [
        ("2 5 9", true),
        ("Sorted: 2, 5, 9.", true),
        ("2, 5, 9, 12", false),
        ("1, 2, 5, 9", false),
        ("9, 5, 2", false),
    ] {
        assert_eq!(correct(&row, answer), right, "{answer}");
    }
    let code = key(Task::Code, Chinese, "print(\"cat\")");
    for (answer, right) in [
        ("print('cat')", true),
        ("`print( \"cat\" )`", true),
        ("代码是：print(\"cat\")", true),
        ("print(\"cat\"))", false),
        ("xprint(\"cat\")", false),
        ("print(\"Cat\")", false),
    ] {
        assert_eq!(correct(&code, answer), right, "{answer}");
    }
    let name = AnswerKey { accept: vec!["小明".into()], ..key(Task::Reading, Chinese, "你是小明。") };
    for (answer, right) in [("小明", true), ("你叫小明！", true), ("小红", false), ("Xiaoming", false)]
    {
        assert_eq!(correct(&name, answer), right, "{answer}");
    }
    // An answer in another language is worth less than the same in the right one, a mixed one lies between.
    let language = |answer| judge(&name, answer).language;
    assert!(language("You are 小明.") < 0.1 && language("小明 is 你的名字 here") > 0.5);
}

#[test]
fn an_answer_about_somebody_else_is_wrong() {
    let record = r#"{"task":"reading","language":"zh","answer":"凯特很善良。","accept":["善良"]}"#;
    let key = AnswerKey::of(&serde_json::from_str(record).unwrap()).unwrap();
    assert!(judge(&key, "凯特很善良。").correct && judge(&key, "善良").correct);
    assert!(judge(&key, "Kate: 善良").correct, "the same person in the other language");
    assert!(!judge(&key, "小刚很善良。").correct);
}
