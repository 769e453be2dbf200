//! Whether two answers of mathematics say the same number: plain, with thousands and decimals, as a fraction,
//! or in the little LaTeX that answers are written in.

/// The last answer that a text gives: what is boxed last, what follows its last `####`, all of it where it is a
/// formula in LaTeX, its last formula between `$`, or its last number.
pub(super) fn final_answer(text: &str) -> Option<&str> {
    let whole = || Some(text.trim()).filter(|text| text.contains('\\') && value(text).is_some());
    let formula = || last_formula(text).filter(|formula| value(formula).is_some());
    marked(text).or_else(whole).or_else(formula).or_else(|| last_number(text))
}

/// The number that a key is: what is marked in it as the answer, all of it where it is a formula, or its last number.
pub(super) fn of_key(text: &str) -> Option<&str> {
    let whole = || Some(text.trim()).filter(|text| value(text).is_some());
    marked(text).or_else(whole).or_else(|| final_answer(text))
}

/// What is boxed last, or follows the last `####`.
fn marked(text: &str) -> Option<&str> {
    boxed(text).or_else(|| Some(text.rsplit_once("####")?.1.lines().next()?.trim()))
}

/// Whether both are the same number or, where one of them is none, the same text but for spaces and case.
pub(super) fn same(a: &str, b: &str) -> bool {
    // Of whole numbers every digit counts, however many there are.
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return a == b;
    }
    match (value(a), value(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        (None, None) => {
            let [a, b] = [a, b].map(|text| plain(text).replace(['{', '}'], ""));
            a == b && !a.is_empty()
        }
        _ => false,
    }
}

/// Sign and digits of a text that is nothing but a whole number.
fn whole(text: &str) -> Option<(bool, String)> {
    let text = without_thousands(&plain(text));
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (digits, zeros) = rest.split_once('.').unwrap_or((rest, ""));
    let is_whole = digits.bytes().all(|c| c.is_ascii_digit()) && zeros.bytes().all(|c| c == b'0');
    let significant = digits.trim_start_matches('0');
    (is_whole && !digits.is_empty()).then(|| (is_negative && !significant.is_empty(), significant.to_owned()))
}

/// What stands in the last `\boxed{…}`.
fn boxed(text: &str) -> Option<&str> {
    let rest = &text[text.rfind("\\boxed{")? + "\\boxed".len()..];
    Some(braced(rest)?.0)
}

fn last_formula(text: &str) -> Option<&str> {
    let parts: Vec<&str> = text.split('$').collect();
    // Between the second-last and the last dollar, where they come in pairs.
    (parts.len() >= 3 && parts.len() % 2 == 1).then(|| parts[parts.len() - 2].trim())
}

fn last_number(text: &str) -> Option<&str> {
    let end = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = number_start(&text[..end])?;
    Some(&text[before_exponent(&text[..start]).unwrap_or(start)..end])
}

/// Where the number begins that a text ends with, an exponent apart.
fn number_start(text: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.' | '/');
    let start = text
        .rfind(|c: char| !is_part(c))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    let start = start + text[start..].find(|c: char| c.is_ascii_digit() || c == '.')?;
    let before = text[..start].strip_suffix(['-', '−']).filter(|before| is_followed_by_a_sign(before));
    Some(before.map_or(start, str::len))
}

/// Whether a minus after this text is a number's sign: nothing stands there that something could be taken from, neither a
/// number nor a bracket nor a name of one letter.
fn is_followed_by_a_sign(before: &str) -> bool {
    if before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == ')') {
        return false;
    }
    let before = before.trim_end();
    let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    !before.ends_with(')') && word.len() != 1 && !word.contains(|c: char| c.is_ascii_digit())
}

/// Where the number begins whose exponent follows a text that ends as `1.5e-` does.
fn before_exponent(text: &str) -> Option<usize> {
    let mantissa = text.strip_suffix(['-', '+']).unwrap_or(text).strip_suffix(['e', 'E'])?;
    if mantissa.ends_with(|c: char| c.is_ascii_digit()) { number_start(mantissa) } else { None }
}

/// What stands between the brace that a text begins with and its partner, and what comes after.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (at > 0).then(|| (&text[1..at], &text[at + 1..]));
        }
    }
    None
}

/// What says nothing of the value.
const ORNAMENT: [&str; 22] = [
    "\\left",
    "\\right",
    "\\displaystyle",
    "\\,",
    "\\!",
    "\\;",
    "\\:",
    "\\ ",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "\\$",
    "$",
    "\\%",
    "%",
    "^\\circ",
    "^{\\circ}",
    "°",
    "\\mathrm",
    "\\text",
    "\\mbox",
];

/// A text without spaces, case and ornaments.
fn plain(text: &str) -> String {
    let mut plain = text.replace("dfrac", "frac").replace("tfrac", "frac").replace('−', "-");
    ORNAMENT.iter().for_each(|ornament| plain = plain.replace(ornament, ""));
    plain.retain(|c| !c.is_whitespace());
    plain.trim_end_matches(['.', '。']).to_lowercase()
}

/// The value of a text that is nothing but a number or an expression of numbers.
fn value(text: &str) -> Option<f64> {
    let text = without_thousands(&plain(text));
    let mut parser = Parser { rest: &text, depth: 0 };
    let value = parser.sum()?;
    (parser.rest.is_empty() && value.is_finite()).then_some(value)
}

/// `1,234,567` is one number; `1,2` are two.
fn without_thousands(text: &str) -> String {
    let digits = |part: &str| part.len() == 3 && part.bytes().all(|c| c.is_ascii_digit());
    let is_thousands = |at: usize| {
        let after: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        digits(&after) && text[..at].ends_with(|c: char| c.is_ascii_digit())
    };
    text.char_indices().filter(|(at, c)| *c != ',' || !is_thousands(*at)).map(|(_, c)| c).collect()
}

/// Bytes of the exponent that a text begins with, as in `e-5`.
fn exponent_len(text: &str) -> usize {
    let Some(after) = text.strip_prefix('e') else { return 0 };
    let digits = after.strip_prefix(['-', '+']).unwrap_or(after);
    let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    if len == 0 { 0 } else { text.len() - digits.len() + len }
}

/// Sums, products and powers of numbers, fractions and roots.
struct Parser<'t> {
    rest: &'t str,
    depth: u32,
}

impl Parser<'_> {
    fn takes(&mut self, any: &[&str]) -> bool {
        let rest = any.iter().find_map(|word| self.rest.strip_prefix(word));
        rest.map(|rest| self.rest = rest).is_some()
    }

    fn sum(&mut self) -> Option<f64> {
        let mut sum = self.product()?;
        loop {
            if self.takes(&["+"]) {
                sum += self.product()?;
            } else if self.takes(&["-"]) {
                sum -= self.product()?;
            } else {
                return Some(sum);
            }
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut product = self.signed()?;
        loop {
            if self.takes(&["*", "\\cdot", "\\times", "×"]) {
                product *= self.signed()?;
            } else if self.takes(&["/", "\\div", "÷"]) {
                product /= self.signed()?;
            } else if self.rest.starts_with(['\\', '(', '{']) {
                // 2\sqrt{3}, 3\pi; a number before a fraction is a mixed one.
                let is_mixed = self.rest.starts_with("\\frac");
                let next = self.power()?;
                product = if is_mixed { product + next.copysign(product) } else { product * next };
            } else {
                return Some(product);
            }
        }
    }

    fn signed(&mut self) -> Option<f64> {
        if self.takes(&["-"]) {
            return self.nested(|parser| Some(-parser.signed()?));
        }
        self.takes(&["+"]);
        self.power()
    }

    fn power(&mut self) -> Option<f64> {
        let base = self.atom()?;
        if self.takes(&["^"]) { Some(base.powf(self.nested(Self::signed)?)) } else { Some(base) }
    }

    fn atom(&mut self) -> Option<f64> {
        if self.takes(&["\\pi", "π"]) {
            return Some(std::f64::consts::PI);
        }
        if self.takes(&["\\sqrt", "√"]) {
            return Some(self.argument()?.sqrt());
        }
        if self.takes(&["\\frac"]) {
            let above = self.argument()?;
            return Some(above / self.argument()?);
        }
        if self.takes(&["("]) {
            let inner = self.nested(Self::sum)?;
            return self.takes(&[")"]).then_some(inner);
        }
        if self.rest.starts_with('{') {
            return self.argument();
        }
        let is_part = |c: char| !(c.is_ascii_digit() || c == '.');
        let end = self.rest.find(is_part).unwrap_or(self.rest.len());
        let end = end + exponent_len(&self.rest[end..]);
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.parse().ok()
    }

    /// What a command is about: a group, or one character.
    fn argument(&mut self) -> Option<f64> {
        if self.rest.starts_with('{') {
            let (inner, rest) = braced(self.rest)?;
            self.rest = rest;
            let mut group = Parser { rest: inner, depth: self.depth };
            let value = group.nested(Self::sum_of)?;
            return group.rest.is_empty().then_some(value);
        }
        let first = self.rest.chars().next()?;
        if first.is_ascii_digit() {
            self.rest = &self.rest[1..];
            return first.to_digit(10).map(f64::from);
        }
        self.nested(Self::atom)
    }

    fn sum_of(parser: &mut Parser<'_>) -> Option<f64> {
        parser.sum()
    }

    /// Brackets within brackets, as far as an answer may have them.
    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Option<f64>) -> Option<f64> {
        const DEPTH: u32 = 64;
        self.depth += 1;
        let value = if self.depth > DEPTH { None } else { inner(self) };
        self.depth -= 1;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_is_found() {
        for (text, answer) in [
            ("so it is \\boxed{\\frac{1}{2}} and not 3", "\\frac{1}{2}"),
            ("10 - 7 = 3", "3"),
            ("It is 1,234.5.", "1,234.5"),
            ("x = -4", "-4"),
            ("10-7", "7"),
            ("10 -7", "7"),
            ("2x -7", "7"),
            ("(1 + 2) -7", "7"),
            ("The answer is -4.", "-4"),
            ("答案是-4。", "-4"),
            ("it is: −4", "−4"),
            ("covid-19", "19"),
            ("Therefore\n#### 72\nbye 5", "72"),
            ("the value $\\frac{3}{4}$ it is, of 9 things", "\\frac{3}{4}"),
            ("costs $5 and $6", "6"),
            ("是 22。", "22"),
            ("about 3/4 of it", "3/4"),
            (" \\frac{1}{2} ", "\\frac{1}{2}"),
            ("it is 1e-5.", "1e-5"),
            ("about -6.02E+23 of it", "-6.02E+23"),
            ("the value 7", "7"),
            ("e5", "5"),
        ] {
            assert_eq!(final_answer(text), Some(answer), "{text}");
        }
        for text in ["", "nothing", "\\boxed{", "$ $"] {
            assert_eq!(final_answer(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_may_be_a_formula() {
        for (key, number) in [("1/2 + 3", "1/2 + 3"), ("2 + 2 = 4", "4"), ("so\n#### 5", "5"), ("-7", "-7")] {
            assert_eq!(of_key(key), Some(number), "{key}");
        }
        assert_eq!(of_key("none"), None);
    }

    #[test]
    fn equal_numbers_are_the_same() {
        for (a, b) in [
            ("\\frac{1}{2}", "0.5"),
            ("\\dfrac12", "1/2"),
            ("1,234,567", "1234567"),
            ("2\\sqrt{3}", "\\sqrt{12}"),
            ("$-\\frac{3}{4}$", "-0.75"),
            ("3\\frac{1}{2}", "3.5"),
            ("50\\%", "50"),
            ("90^\\circ", "90"),
            ("2^{10}", "1024"),
            ("\\left(1+2\\right)\\cdot 3", "9"),
            ("72.00", "72"),
            ("2\\pi", "6.283185307179586"),
            ("\\text{Yes}", "yes"),
            ("(1, 2)", "(1,2)"),
            ("1e3", "1E3"),
            ("1e3", "1000"),
            ("2.5e-3", "0.0025"),
            ("+7", "007"),
            ("-0", "0"),
            ("123456789012345678901", "123,456,789,012,345,678,901.00"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("1", "2"),
            ("0.333", "\\frac13"),
            ("(1,2)", "(2,1)"),
            ("1,2", "12"),
            ("-4", "4"),
            ("1234567890", "1234567891"),
            ("9007199254740993", "9007199254740992"),
            ("", "0"),
            ("1/0", "1/0+1"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn no_answer_is_too_odd() {
        let deep = "(".repeat(100_000) + "1" + &")".repeat(100_000);
        let braces = "\\sqrt{".repeat(5_000) + "1" + &"}".repeat(5_000);
        for odd in [
            &deep,
            &braces,
            &"-".repeat(100_000),
            "^",
            "\\frac",
            "{",
            "}",
            "\\boxed{{}",
            "é−1",
            "$$$",
            "9".repeat(999).as_str(),
        ] {
            let _ = (final_answer(odd), same(odd, "1"), same(odd, odd));
        }
    }
}
