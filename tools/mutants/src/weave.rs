//! Writes mutants into a source file, each behind a switch, so that one build holds them all.
//!
//! Everything is an insertion. An expression becomes `(if crate::mutant(7) { mutated } else { original })`, a function begins
//! with `if crate::mutant(7) { return replacement; }`, and a match arm that can be deleted gets a guard. Mutants within mutants
//! are woven into the original only: but one is on at a time.

use std::cmp::Reverse;
use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::Span as TokenSpan;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::list::{Genre, LineColumn, Mutant, Span};

/// A file with its mutants.
pub struct Woven {
    pub text: String,
    /// Which bytes of `text` belong to which mutant: all that was inserted for it, and what stands between.
    pub places: Vec<Place>,
}

impl Woven {
    /// Puts a text before all others and one behind.
    pub fn embrace(&mut self, before: &str, behind: &str) {
        self.text = format!("{before}{}{behind}", self.text);
        for range in self.places.iter_mut().flat_map(|place| [&mut place.whole, &mut place.mutated]) {
            *range = range.start + before.len()..range.end + before.len();
        }
    }
}

/// Where a mutant stands in a woven file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub number: usize,
    /// With the original expression.
    pub whole: Range<usize>,
    /// The mutated text.
    pub mutated: Range<usize>,
}

/// What is put in at the byte `at`.
struct Insertion {
    number: usize,
    at: usize,
    /// Whether it follows what it embraces, and the length of that: what embraces more lies farther out.
    closes: bool,
    length: usize,
    text: String,
}

/// Weaves `mutants`, all of the file `source`, into it. Also returns the numbers of those that cannot be woven, with the reason.
///
/// # Errors
/// `source` is no Rust.
pub fn weave(source: &str, mutants: &[&Mutant]) -> Result<(Woven, Vec<(usize, String)>)> {
    let file = syn::parse_file(source).context("no Rust source")?;
    let lines = Lines::of(source);
    let (mut insertions, mut refused) = (Vec::new(), Vec::new());
    for mutant in mutants {
        let mut finder =
            Finder { genre: mutant.genre, span: lines.bytes(mutant.span), found: None, in_const: false };
        finder.visit_file(&file);
        match finder
            .found
            .context("stands in a const, a chain with `let`, or code that is not parsed")
            .and_then(|target| insert(source, mutant, finder.span.clone(), target))
        {
            Ok(new) => insertions.extend(new),
            Err(error) => refused.push((mutant.number, format!("{error:#}"))),
        }
    }
    // A process that is started without an environment is told all the same which mutant is on.
    for (at, call) in source.match_indices(".env_clear()") {
        let text = ".envs(crate::mutant_environment())".into();
        insertions.push(Insertion { number: 0, at: at + call.len(), closes: false, length: 0, text });
    }
    Ok((put_in(source, insertions), refused))
}

/// What a mutant changes, in bytes of the source.
enum Target {
    /// An expression that is written anew.
    Expression(Range<usize>),
    /// A function, whose body begins here and has this length.
    Body(usize, usize),
    /// A match arm, whose pattern ends here.
    Pattern(usize),
}

fn insert(source: &str, mutant: &Mutant, span: Range<usize>, target: Target) -> Result<Vec<Insertion>> {
    let number = mutant.number;
    let insertion = |at, closes, length, text| Insertion { number, at, closes, length, text };
    Ok(match target {
        Target::Expression(Range { start, end }) => {
            let mutated =
                format!("{}{}{}", &source[start..span.start], mutant.replacement, &source[span.end..end]);
            syn::parse_str::<syn::Expr>(&mutated).context("is no expression")?;
            let open = format!("(if crate::mutant({number}) {{ {mutated} }} else {{ ");
            let length = end - start;
            vec![insertion(start, false, length, open), insertion(end, true, length, " })".into())]
        }
        Target::Body(at, length) => {
            let text = format!(" if crate::mutant({number}) {{ return {}; }}", mutant.replacement);
            vec![insertion(at, false, length, text)]
        }
        Target::Pattern(at) => vec![insertion(at, true, 0, format!(" if !crate::mutant({number})"))],
    })
}

fn put_in(source: &str, mut insertions: Vec<Insertion>) -> Woven {
    // At one place what closes comes before what opens; the outer opens first and closes last.
    insertions.sort_by_key(|it| {
        let outside_in = (Reverse(it.length), it.number);
        let inside_out = (it.length, Reverse(it.number));
        (it.at, !it.closes, (!it.closes).then_some(outside_in), it.closes.then_some(inside_out))
    });
    let (mut text, mut places, mut copied) = (String::new(), Vec::<Place>::new(), 0);
    for Insertion { number, at, text: new, .. } in insertions {
        text.push_str(&source[copied..at]);
        copied = at;
        let inserted = text.len()..text.len() + new.len();
        text.push_str(&new);
        match places.iter_mut().find(|place| place.number == number) {
            Some(place) => place.whole.end = inserted.end,
            None if number > 0 => places.push(Place { number, whole: inserted.clone(), mutated: inserted }),
            None => {}
        }
    }
    text.push_str(&source[copied..]);
    Woven { text, places }
}

/// Finds the smallest piece of syntax that a mutant changes.
struct Finder {
    genre: Genre,
    span: Range<usize>,
    found: Option<Target>,
    /// Whether the code around is computed when compiling, where no switch can be read.
    in_const: bool,
}

impl Finder {
    fn is(&self, genre: Genre, span: TokenSpan) -> bool {
        self.genre == genre && self.span == span.byte_range() && !self.in_const
    }

    fn find_body(&mut self, block: &syn::Block) {
        let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) else { return };
        let body = first.span().byte_range().start..last.span().byte_range().end;
        if self.genre == Genre::FnValue && self.span == body && !self.in_const {
            let brace = block.brace_token.span.open().byte_range().end;
            self.found = Some(Target::Body(brace, body.end - brace));
        }
    }

    fn within_const(&mut self, is_const: bool, go_on: impl FnOnce(&mut Self)) {
        let outside = self.in_const;
        self.in_const |= is_const;
        go_on(self);
        self.in_const = outside;
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_expr_binary(&mut self, it: &'ast syn::ExprBinary) {
        if self.is(Genre::BinaryOperator, it.op.span()) && !has_let(&it.left) && !has_let(&it.right) {
            self.found = Some(Target::Expression(it.span().byte_range()));
        }
        visit::visit_expr_binary(self, it);
    }

    fn visit_expr_unary(&mut self, it: &'ast syn::ExprUnary) {
        if self.is(Genre::UnaryOperator, it.op.span()) {
            self.found = Some(Target::Expression(it.span().byte_range()));
        }
        visit::visit_expr_unary(self, it);
    }

    fn visit_expr_struct(&mut self, it: &'ast syn::ExprStruct) {
        let all = it.span().byte_range();
        if self.genre == Genre::StructField
            && it.fields.iter().any(|field| field.span().byte_range().start == self.span.start)
        {
            self.found = Some(Target::Expression(all));
        }
        visit::visit_expr_struct(self, it);
    }

    fn visit_arm(&mut self, it: &'ast syn::Arm) {
        if self.is(Genre::MatchArm, it.span()) {
            self.found = Some(Target::Pattern(it.pat.span().byte_range().end));
        }
        if let Some((_, guard)) = &it.guard
            && self.is(Genre::MatchArmGuard, guard.span())
        {
            self.found = Some(Target::Expression(self.span.clone()));
        }
        visit::visit_arm(self, it);
    }

    fn visit_item_fn(&mut self, it: &'ast syn::ItemFn) {
        self.within_const(it.sig.constness.is_some(), |finder| {
            finder.find_body(&it.block);
            visit::visit_item_fn(finder, it);
        });
    }

    fn visit_impl_item_fn(&mut self, it: &'ast syn::ImplItemFn) {
        self.within_const(it.sig.constness.is_some(), |finder| {
            finder.find_body(&it.block);
            visit::visit_impl_item_fn(finder, it);
        });
    }

    fn visit_trait_item_fn(&mut self, it: &'ast syn::TraitItemFn) {
        if let Some(block) = &it.default {
            self.find_body(block);
        }
        visit::visit_trait_item_fn(self, it);
    }

    // What a static calls when it is first used is no constant.
    fn visit_expr_closure(&mut self, it: &'ast syn::ExprClosure) {
        let outside = std::mem::replace(&mut self.in_const, false);
        visit::visit_expr_closure(self, it);
        self.in_const = outside;
    }

    fn visit_item_const(&mut self, it: &'ast syn::ItemConst) {
        self.within_const(true, |finder| visit::visit_item_const(finder, it));
    }

    fn visit_item_static(&mut self, it: &'ast syn::ItemStatic) {
        self.within_const(true, |finder| visit::visit_item_static(finder, it));
    }

    fn visit_impl_item_const(&mut self, it: &'ast syn::ImplItemConst) {
        self.within_const(true, |finder| visit::visit_impl_item_const(finder, it));
    }
}

/// Whether an expression is a chain with a `let`, which stands in a condition only, and knows no operator but `&&`.
fn has_let(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(it) => has_let(&it.left) || has_let(&it.right),
        _ => false,
    }
}

/// Where lines begin, to turn lines and columns into bytes.
struct Lines<'a> {
    source: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(source: &'a str) -> Self {
        let ends = source.match_indices('\n').map(|(at, _)| at + 1);
        Lines { source, starts: std::iter::once(0).chain(ends).collect() }
    }

    fn bytes(&self, span: Span) -> Range<usize> {
        self.byte(span.start)..self.byte(span.end)
    }

    fn byte(&self, at: LineColumn) -> usize {
        let start = self.starts.get(at.line - 1).copied().unwrap_or(self.source.len());
        let line = &self.source[start..];
        start + line.char_indices().nth(at.column - 1).map_or(line.len(), |(byte, _)| byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mutant that replaces the `nth` occurrence of `what`.
    fn mutant(source: &str, number: usize, genre: Genre, (what, nth): (&str, usize), with: &str) -> Mutant {
        let start = source.match_indices(what).nth(nth).expect("it occurs").0;
        let place = |byte: usize| {
            let before = &source[..byte];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            LineColumn {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
            }
        };
        Mutant {
            number,
            name: String::new(),
            package: String::new(),
            file: String::new(),
            span: Span { start: place(start), end: place(start + what.len()) },
            replacement: with.into(),
            genre,
        }
    }

    fn woven(source: &str, mutants: &[Mutant]) -> Woven {
        let (woven, refused) = weave(source, &mutants.iter().collect::<Vec<_>>()).expect("Rust");
        assert!(refused.is_empty(), "{refused:?}");
        syn::parse_file(&woven.text).expect("what is woven is Rust");
        for place in &woven.places {
            assert!(woven.text[place.mutated.clone()].contains(&format!("mutant({})", place.number)));
        }
        woven
    }

    #[test]
    fn operators_nest() {
        let source = "fn ä() -> u8 { 'ä'; x + y * -z }";
        let mutants = [
            mutant(source, 1, Genre::BinaryOperator, ("*", 0), "/"),
            mutant(source, 2, Genre::BinaryOperator, ("+", 0), "-"),
            mutant(source, 3, Genre::BinaryOperator, ("+", 0), "*"),
            mutant(source, 4, Genre::UnaryOperator, ("-", 1), ""),
        ];
        let woven = woven(source, &mutants);
        assert_eq!(
            woven.text,
            "fn ä() -> u8 { 'ä'; (if crate::mutant(2) { x - y * -z } else { (if crate::mutant(3) { x * y * -z } else { \
             x + (if crate::mutant(1) { y / -z } else { y * (if crate::mutant(4) { z } else { -z }) }) }) }) }"
        );
        let whole =
            |number| woven.places.iter().find(|place| place.number == number).expect("a place").whole.clone();
        assert_eq!(&woven.text[whole(4)], "(if crate::mutant(4) { z } else { -z })");
        assert!(whole(2).start < whole(3).start && whole(3).end < whole(2).end);
    }

    #[test]
    fn the_outer_opens_first_and_closes_last() {
        let (left, right) = ("fn f() { a * b + c }", "fn f() { a + b * c }");
        let both = |source| {
            woven(
                source,
                &[
                    mutant(source, 1, Genre::BinaryOperator, ("*", 0), "/"),
                    mutant(source, 2, Genre::BinaryOperator, ("+", 0), "-"),
                ],
            )
        };
        assert_eq!(
            both(left).text,
            "fn f() { (if crate::mutant(2) { a * b - c } else { \
             (if crate::mutant(1) { a / b } else { a * b }) + c }) }"
        );
        assert_eq!(
            both(right).text,
            "fn f() { (if crate::mutant(2) { a - b * c } else { \
             a + (if crate::mutant(1) { b / c } else { b * c }) }) }"
        );
        let end = |number| both(right).places.iter().find(|it| it.number == number).map(|it| it.whole.end);
        assert!(end(1) < end(2));
    }

    #[test]
    fn bodies_arms_and_fields() {
        let source = "fn f(x: u8) -> P { match x { 1 => a, 2 if x > y => b, _ => P { q: 1, ..c } } }";
        let body = "match x { 1 => a, 2 if x > y => b, _ => P { q: 1, ..c } }";
        let mutants = [
            mutant(source, 1, Genre::FnValue, (body, 0), "P::new()"),
            mutant(source, 2, Genre::MatchArm, ("1 => a,", 0), ""),
            mutant(source, 3, Genre::MatchArmGuard, ("x > y", 0), "true"),
            mutant(source, 4, Genre::StructField, ("q: 1,", 0), ""),
        ];
        assert_eq!(
            woven(source, &mutants).text,
            "fn f(x: u8) -> P { if crate::mutant(1) { return P::new(); } match x { \
             1 if !crate::mutant(2) => a, 2 if (if crate::mutant(3) { true } else { x > y }) => b, \
             _ => (if crate::mutant(4) { P {  ..c } } else { P { q: 1, ..c } }) } }"
        );
    }

    #[test]
    fn constants_have_no_switch() {
        let source = "const N: usize = 1 << 20; const fn f() -> u8 { 1 + 1 } static S: L = L::new(|| 2 * 3);";
        let mutants = [
            mutant(source, 1, Genre::BinaryOperator, ("<<", 0), ">>"),
            mutant(source, 2, Genre::BinaryOperator, ("+", 0), "-"),
            mutant(source, 3, Genre::BinaryOperator, ("*", 0), "/"),
        ];
        let (woven, refused) = weave(source, &mutants.iter().collect::<Vec<_>>()).expect("Rust");
        assert_eq!(refused.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        assert!(woven.text.contains("|| (if crate::mutant(3) { 2 / 3 } else { 2 * 3 })"));
    }

    #[test]
    fn chains_with_let_stay_conditions() {
        let source = "fn f() { if a && b == c && let Some(d) = e && f {} }";
        let and = |number, nth| mutant(source, number, Genre::BinaryOperator, ("&&", nth), "||");
        let equal = mutant(source, 4, Genre::BinaryOperator, ("==", 0), "!=");
        let mutants = [and(1, 0), and(2, 1), and(3, 2), equal];
        let (woven, refused) = weave(source, &mutants.iter().collect::<Vec<_>>()).expect("Rust");
        assert_eq!(refused.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(
            woven.text,
            "fn f() { if (if crate::mutant(1) { a || b == c } else { \
             a && (if crate::mutant(4) { b != c } else { b == c }) }) && let Some(d) = e && f {} }"
        );
    }

    #[test]
    fn a_process_without_environment_is_told() {
        let woven = woven("fn f() { c.env_clear(); }", &[]);
        assert_eq!(woven.text, "fn f() { c.env_clear().envs(crate::mutant_environment()); }");
    }
}
