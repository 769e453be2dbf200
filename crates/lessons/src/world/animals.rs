//! Animals and what is known about them.

use super::words::{Noun, Pair, noun};

/// An animal and the facts that lessons ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Animal {
    pub(crate) noun: Noun,
    pub(crate) legs: u32,
    /// From 1, an ant, to 6, an elephant; 0 where kinds differ too much to say.
    pub(crate) size: u32,
    pub(crate) eats: Pair,
}

const fn animal(noun: Noun, legs: u32, size: u32, eats: &'static str, eats_zh: &'static str) -> Animal {
    Animal { noun, legs, size, eats: Pair { en: eats, zh: eats_zh } }
}

pub(crate) const ANIMALS: &[Animal] = &[
    animal(noun("cat", "cats", "猫", "只"), 4, 3, "fish", "鱼"),
    animal(noun("dog", "dogs", "狗", "只"), 4, 4, "meat", "肉"),
    animal(noun("bird", "birds", "鸟", "只"), 2, 0, "seeds", "种子"),
    animal(noun("duck", "ducks", "鸭子", "只"), 2, 3, "seeds", "种子"),
    animal(noun("horse", "horses", "马", "匹"), 4, 5, "grass", "草"),
    animal(noun("cow", "cows", "牛", "头"), 4, 5, "grass", "草"),
    animal(noun("sheep", "sheep", "羊", "只"), 4, 4, "grass", "草"),
    animal(noun("rabbit", "rabbits", "兔子", "只"), 4, 3, "carrots", "胡萝卜"),
    animal(noun("mouse", "mice", "老鼠", "只"), 4, 2, "rice", "大米"),
    animal(noun("tiger", "tigers", "老虎", "只"), 4, 5, "meat", "肉"),
    animal(noun("elephant", "elephants", "大象", "头"), 4, 6, "grass", "草"),
    animal(noun("monkey", "monkeys", "猴子", "只"), 4, 3, "bananas", "香蕉"),
    animal(noun("frog", "frogs", "青蛙", "只"), 4, 2, "insects", "虫子"),
    animal(noun("ant", "ants", "蚂蚁", "只"), 6, 1, "sugar", "糖"),
];
