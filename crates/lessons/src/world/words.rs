//! Nouns, names, places, colours and the calendar, each in both languages.

use super::super::lesson::Language;

/// A word in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) en: &'static str,
    pub(crate) zh: &'static str,
}

impl Pair {
    pub(crate) fn say(&self, language: Language) -> &'static str {
        match language {
            Language::English => self.en,
            Language::Chinese => self.zh,
        }
    }
}

const fn pair(en: &'static str, zh: &'static str) -> Pair {
    Pair { en, zh }
}

/// Something that can be counted; Chinese counts with a measure word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noun {
    pub(crate) en: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) zh: &'static str,
    pub(crate) measure: &'static str,
}

pub(super) const fn noun(
    en: &'static str,
    plural: &'static str,
    zh: &'static str,
    measure: &'static str,
) -> Noun {
    Noun { en, plural, zh, measure }
}

/// Where one is and goes: `at school`, `to school`, `在学校`, `去学校`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: Pair,
    pub(crate) to: Pair,
}

const fn place(at: &'static str, to: &'static str, zh_at: &'static str, zh_to: &'static str) -> Place {
    Place { at: pair(at, zh_at), to: pair(to, zh_to) }
}

pub(crate) const PEOPLE: &[Pair] = &[
    pair("Tom", "汤姆"),
    pair("Anna", "安娜"),
    pair("Bob", "鲍勃"),
    pair("Lily", "莉莉"),
    pair("Lucy", "露西"),
    pair("Jack", "杰克"),
    pair("Emma", "艾玛"),
    pair("Xiaoming", "小明"),
    pair("Xiaohong", "小红"),
    pair("Xiaohua", "小华"),
    pair("Xiaoli", "小丽"),
    pair("Xiaogang", "小刚"),
];

pub(crate) const COLOURS: &[Pair] = &[
    pair("red", "红色"),
    pair("blue", "蓝色"),
    pair("green", "绿色"),
    pair("yellow", "黄色"),
    pair("black", "黑色"),
    pair("white", "白色"),
    pair("brown", "棕色"),
    pair("grey", "灰色"),
];

pub(crate) const FOODS: &[Noun] = &[
    noun("apple", "apples", "苹果", "个"),
    noun("banana", "bananas", "香蕉", "根"),
    noun("orange", "oranges", "橙子", "个"),
    noun("pear", "pears", "梨", "个"),
    noun("peach", "peaches", "桃子", "个"),
    noun("tomato", "tomatoes", "西红柿", "个"),
    noun("potato", "potatoes", "土豆", "个"),
    noun("carrot", "carrots", "胡萝卜", "根"),
    noun("egg", "eggs", "鸡蛋", "个"),
    noun("cake", "cakes", "蛋糕", "个"),
];

pub(crate) const OBJECTS: &[Noun] = &[
    noun("ball", "balls", "球", "个"),
    noun("book", "books", "书", "本"),
    noun("pen", "pens", "笔", "支"),
    noun("cup", "cups", "杯子", "个"),
    noun("hat", "hats", "帽子", "顶"),
    noun("bag", "bags", "背包", "个"),
    noun("box", "boxes", "盒子", "个"),
    noun("kite", "kites", "风筝", "个"),
    noun("flower", "flowers", "花", "朵"),
    noun("umbrella", "umbrellas", "雨伞", "把"),
    noun("key", "keys", "钥匙", "把"),
    noun("coat", "coats", "外套", "件"),
    noun("map", "maps", "地图", "张"),
    noun("boat", "boats", "船", "条"),
];

/// The first six suit animals as well.
pub(crate) const PLACES: &[Place] = &[
    place("in the park", "to the park", "在公园", "去公园"),
    place("in the garden", "to the garden", "在花园", "去花园"),
    place("by the river", "to the river", "在河边", "去河边"),
    place("on the farm", "to the farm", "在农场", "去农场"),
    place("in the forest", "to the forest", "在森林里", "去森林里"),
    place("at the zoo", "to the zoo", "在动物园", "去动物园"),
    place("at school", "to school", "在学校", "去学校"),
    place("at home", "home", "在家", "回家"),
    place("in the kitchen", "to the kitchen", "在厨房", "去厨房"),
    place("in the library", "to the library", "在图书馆", "去图书馆"),
];

pub(crate) const CITIES: &[Pair] = &[
    pair("London", "伦敦"),
    pair("Paris", "巴黎"),
    pair("Berlin", "柏林"),
    pair("Tokyo", "东京"),
    pair("Beijing", "北京"),
    pair("Shanghai", "上海"),
];

pub(crate) const DAYS: [Pair; 7] = [
    pair("Monday", "星期一"),
    pair("Tuesday", "星期二"),
    pair("Wednesday", "星期三"),
    pair("Thursday", "星期四"),
    pair("Friday", "星期五"),
    pair("Saturday", "星期六"),
    pair("Sunday", "星期日"),
];

pub(crate) const MONTHS: [Pair; 12] = [
    pair("January", "一月"),
    pair("February", "二月"),
    pair("March", "三月"),
    pair("April", "四月"),
    pair("May", "五月"),
    pair("June", "六月"),
    pair("July", "七月"),
    pair("August", "八月"),
    pair("September", "九月"),
    pair("October", "十月"),
    pair("November", "十一月"),
    pair("December", "十二月"),
];

const NUMBERS: [Pair; 10] = [
    pair("one", "一"),
    pair("two", "两"),
    pair("three", "三"),
    pair("four", "四"),
    pair("five", "五"),
    pair("six", "六"),
    pair("seven", "七"),
    pair("eight", "八"),
    pair("nine", "九"),
    pair("ten", "十"),
];

/// `three apples`, `三个苹果`; `n` from 1 to 10.
pub(crate) fn counted(n: u32, noun: &Noun, language: Language) -> String {
    let number = NUMBERS[n as usize - 1].say(language);
    match language {
        Language::English => format!("{number} {}", if n == 1 { noun.en } else { noun.plural }),
        Language::Chinese => format!("{number}{}{}", noun.measure, noun.zh),
    }
}

/// `a ball`, `an apple`: no word of this world begins with a letter that sounds unlike itself.
pub(crate) fn with_article(words: &str) -> String {
    let article = if words.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {words}")
}

/// With a capital first letter.
pub(crate) fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
