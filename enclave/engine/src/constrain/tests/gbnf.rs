//! Grammars in llama.cpp's notation: what is read of them, what is refused and where, and what they take, against
//! a second reading of the same grammar that is as simple as can be.

use std::collections::BTreeSet;

use super::super::gbnf::{MAX_BEGINNINGS, MAX_GROUPS};
use super::*;

fn grammar(text: &str) -> Constraint {
    Constraint::Grammar(secret(text))
}

/// What is refused, in which definition, and where.
fn why(text: &str) -> (&'static str, usize, usize, usize) {
    match refused(&grammar(text)) {
        ConstraintError::Grammar { what, rule, line, column } => (what, rule, line, column),
        other => panic!("{text}: {other}"),
    }
}

#[test]
fn takes_what_a_grammar_as_llama_cpp_ships_them_makes() {
    let json = grammar(
        r#"root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"#,
    );
    for good in [r#"{}"#, r#"{"a": [1.5e-1, true, "\u00e4ä\n"], "b": {"c":null} }"#, "{\n\t}"] {
        assert!(takes(&json, good), "{good}");
    }
    for bad in ["[]", r#"{"a" }"#, r#"{"a": 01}"#, "{\"a\": \"\n\"}", r#"{"a":1,}"#] {
        assert!(!takes(&json, bad), "{bad}");
    }
}

#[test]
fn every_part_of_the_notation_is_read() {
    for (text, good, bad) in [
        (r#"root::="a"|"b""#, &["a", "b"][..], &["ab", ""][..]),
        ("root ::= [a-c-] [^a-c] [ä\\]]", &["bdä", "-x]"], &["bb]", "b ä "]),
        ("root ::= . .", &["ab", "\n😀"], &["a", "abc"]),
        (r#"root ::= "\n\t\r\\\"\x41\u00e4\U0001F600\[\]\-\^""#, &["\n\t\r\\\"Aä😀[]-^"], &[""]),
        (r#"root ::= "a"{2} "b"{1,} "c"{ 0 , 2 } "d"{0}"#, &["aab", "aabbcc"], &["aa", "aabccc"]),
        (r#"root ::= ("a" | b)+ b ::= "b"?"#, &["", "abba", "bb"], &["c"]),
        (
            r#"root ::= a_1-x # "x" ) is a comment
a_1-x ::= "" | "y""#,
            &["", "y"],
            &["x"],
        ),
        (r#"root ::= [\x61-\u0062\^] [\-a]"#, &["a-", "^a"], &["c-", "ab"]),
    ] {
        let made = grammar(text);
        good.iter().for_each(|one| assert!(takes(&made, one), "{text}: {one}"));
        bad.iter().for_each(|one| assert!(!takes(&made, one), "{text}: {one}"));
    }
}

#[test]
fn says_what_is_wrong_in_which_definition_and_where() {
    for (text, expected) in [
        ("", ("it has no rule named root", 0, 1, 1)),
        ("a ::= \"x\"\n", ("it has no rule named root", 1, 2, 1)),
        ("root", ("the name of a rule is not followed by ::=", 0, 1, 5)),
        ("root ::= \"a\"\n= \"b\"", ("a character has no meaning where it stands", 1, 2, 1)),
        ("| x", ("a rule has no name", 0, 1, 1)),
        ("root ::= \"a", ("a text or a class is not closed", 1, 1, 12)),
        ("root ::= [a", ("a text or a class is not closed", 1, 1, 12)),
        ("root ::= (\"a\"", ("a group is not closed", 1, 1, 14)),
        ("root ::= \"ä\")", ("a group is closed that was not opened", 1, 1, 13)),
        ("root ::= []", ("a class has no characters", 1, 1, 12)),
        ("root ::= [^]", ("a class has no characters", 1, 1, 13)),
        ("root ::= [b-a]", ("a range ends before it begins", 1, 1, 14)),
        ("root ::= \"\\q\"", ("an escape is none", 1, 1, 11)),
        ("root ::= \"\\xg0\"", ("the number of a character is none", 1, 1, 11)),
        ("root ::= \"\\U0000D800\"", ("the number of a character is none", 1, 1, 11)),
        ("root ::= \"a\"{2,1}", ("a repetition is not {n}, {n,} or {n,m}", 1, 1, 13)),
        ("root ::= \"a\"{+1}", ("a repetition is not {n}, {n,} or {n,m}", 1, 1, 13)),
        ("root ::= \"a\"{,1}", ("a repetition is not {n}, {n,} or {n,m}", 1, 1, 13)),
        ("root ::= \"a\"*?", ("a character has no meaning where it stands", 1, 1, 14)),
        ("root ::= <think>", ("a character has no meaning where it stands", 1, 1, 10)),
        ("root ::= \"a\"\n\n  b ::= c", ("a rule is used that is not defined", 2, 3, 9)),
        ("root ::= \"a\"\nroot ::= \"b\"", ("a rule is defined twice", 2, 2, 1)),
        ("root ::= \"x\"\na ::= a \"b\" | \"c\"", ("a rule begins with itself", 2, 2, 1)),
        ("root ::= b? root \"x\"\nb ::= \"b\"", ("a rule begins with itself", 1, 1, 1)),
        ("root ::= a\na ::= (\"x\"{0} root)*", ("a rule begins with itself", 1, 1, 1)),
    ] {
        assert_eq!(why(text), expected, "{text}");
    }
    assert_eq!(refused(&grammar("root ::= \"a\" root")), ConstraintError::Unmeetable);
    assert_eq!(refused(&Constraint::Grammar(vec![0xff].into())), ConstraintError::NotUtf8);
    let canary = refused(&grammar("root ::= canary"));
    assert!(!canary.to_string().contains("canary"), "the name may be a secret: {canary}");
}

#[test]
fn a_list_that_goes_on_with_itself_may_be_longer_than_rules_nest() {
    let list = grammar(r#"root ::= [0-9]+ ("," root)?"#);
    assert!(takes(&list, &vec!["7"; 4 * MAX_DEPTH].join(",")));
    let nested = grammar(r#"root ::= "(" root? ")""#);
    let text = |deep: usize| format!("{}{}", "(".repeat(deep), ")".repeat(deep));
    assert!(takes(&nested, &text(MAX_DEPTH)) && !takes(&nested, &text(MAX_DEPTH + 1)));
}

#[test]
fn refuses_one_group_or_one_beginning_too_many_and_what_grows_too_large() {
    let groups =
        |deep: usize| grammar(&format!("root ::= {}\"a\"{}", "(".repeat(deep), ")".repeat(deep)));
    assert!(takes(&groups(MAX_GROUPS), "a"));
    assert_eq!(refused(&groups(MAX_GROUPS + 1)), ConstraintError::TooLarge);
    // Alternatives, a sequence and the next rule: three for each.
    let chain = |long: usize| {
        let rules: Vec<String> = (0..long).map(|n| format!("r{n} ::= r{}\n", n + 1)).collect();
        grammar(&format!("root ::= r0\n{}r{long} ::= \"a\"", rules.concat()))
    };
    let longest = MAX_BEGINNINGS / 3 - 1;
    assert!(takes(&chain(longest), "a"));
    assert_eq!(refused(&chain(longest + 1)), ConstraintError::TooLarge);
    for large in ["\"a\"{4000000000}", "((((\"a\"{99}){99}){99}){99}){99}"] {
        assert_eq!(refused(&grammar(&format!("root ::= {large}"))), ConstraintError::TooLarge);
    }
    // What is in a class is put in order once, however much it is.
    let many: String =
        (0..MAX_CONSTRAINT_BYTES / 8).map(|n| if n % 2 == 0 { "a" } else { "ä" }).collect();
    let classes = format!("root ::= [{many}] [^{many}]");
    assert!(takes(&grammar(&classes), "äb"));
    let distinct: String = (0..12_000).filter_map(|n| char::from_u32(0x4e00 + 2 * n)).collect();
    let classes = format!("root ::= [^{distinct}]");
    assert!(matches!(
        made(&grammar(&classes), vocabulary()).err(),
        Some(ConstraintError::TooLarge | ConstraintError::TooComplex)
    ));
    let got = MAX_CONSTRAINT_BYTES + 1;
    assert_eq!(refused(&grammar(&" ".repeat(got))), ConstraintError::TooLong { got });
}

/// A grammar of a few rules, the first of them the whole.
#[derive(Clone, Debug)]
enum Part {
    Text(&'static str),
    /// Characters, or all others.
    Class(bool, &'static str),
    Seq(Vec<Self>),
    Any(Vec<Self>),
    Repeat(Box<Self>, usize, Option<usize>),
    /// A character, and then a rule: so none begins with itself.
    Behind(char, usize),
}

const RULES: usize = 3;

impl Part {
    fn write(&self) -> String {
        let all = |parts: &[Self], between: &str| {
            let parts: Vec<String> = parts.iter().map(Self::write).collect();
            format!("({})", parts.join(between))
        };
        match self {
            Self::Text(text) => format!("\"{text}\""),
            Self::Class(true, chars) => format!("[{chars}]"),
            Self::Class(false, chars) => format!("[^{chars}]"),
            Self::Seq(parts) => all(parts, " "),
            Self::Any(parts) => all(parts, " |\n "),
            Self::Repeat(part, ..) if matches!(**part, Self::Repeat(..)) => {
                let Self::Repeat(_, least, most) = self else { unreachable!() };
                Self::Repeat(Self::Seq(vec![(**part).clone()]).into(), *least, *most).write()
            }
            Self::Repeat(part, 0, None) => format!("{}*", part.write()),
            Self::Repeat(part, 0, Some(1)) => format!("{}?", part.write()),
            Self::Repeat(part, least, None) => format!("{}{{{least},}}", part.write()),
            Self::Repeat(part, least, Some(most)) => format!("{}{{{least},{most}}}", part.write()),
            Self::Behind(c, rule) => format!("(\"{c}\" r{rule})"),
        }
    }

    /// Where it may end that begins at `at`.
    fn ends(&self, rules: &[Self], text: &[char], at: usize) -> BTreeSet<usize> {
        let each = |ends: BTreeSet<usize>, part: &Self| -> BTreeSet<usize> {
            ends.into_iter().flat_map(|at| part.ends(rules, text, at)).collect()
        };
        match self {
            Self::Text(wanted) => {
                let wanted: Vec<char> = wanted.chars().collect();
                let there = text[at..].starts_with(&wanted);
                there.then_some(at + wanted.len()).into_iter().collect()
            }
            Self::Class(among, chars) => {
                let next = text.get(at).filter(|c| chars.contains(**c) == *among);
                next.map(|_| at + 1).into_iter().collect()
            }
            Self::Seq(parts) => parts.iter().fold([at].into(), each),
            Self::Any(parts) => parts.iter().flat_map(|part| part.ends(rules, text, at)).collect(),
            Self::Repeat(part, least, most) => {
                let (mut now, mut all) = (BTreeSet::from([at]), BTreeSet::new());
                // More often than there are characters changes nothing.
                for time in 0..=most.unwrap_or(usize::MAX).min(least + text.len()) {
                    if time >= *least {
                        all.extend(&now);
                    }
                    now = each(now, part);
                }
                all
            }
            Self::Behind(c, rule) if text.get(at) == Some(c) => {
                rules[*rule].ends(rules, text, at + 1)
            }
            Self::Behind(..) => BTreeSet::new(),
        }
    }
}

fn part() -> impl Strategy<Value = Part> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["", "a", "b", "ab", "ä"]).prop_map(Part::Text),
        (any::<bool>(), prop::sample::select(vec!["a", "bä", "a-b"])).prop_map(|(among, chars)| {
            Part::Class(among, if chars == "a-b" { "ab" } else { chars })
        }),
        (prop::sample::select(vec!['a', 'b']), 0..RULES)
            .prop_map(|(c, rule)| Part::Behind(c, rule)),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Part::Seq),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Part::Any),
            (inner, 0..3usize, prop::option::of(0..3usize)).prop_map(|(part, least, more)| {
                Part::Repeat(part.into(), least, more.map(|m| least + m))
            }),
        ]
    })
}

/// Every text of at most five of three letters.
fn texts() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut from = 0;
    for _ in 0..5 {
        let to = all.len();
        for at in from..to {
            all.extend(["a", "b", "ä"].map(|c| format!("{}{c}", all[at])));
        }
        from = to;
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The machine and the simple reading take the same of all short texts; and what is drawn, the simple
    /// reading takes.
    #[test]
    fn takes_exactly_what_a_simple_reading_of_the_grammar_takes(
        rules in prop::collection::vec(part(), RULES), choices in prop::collection::vec(any::<u16>(), 16..32),
    ) {
        let named = (0..).zip(&rules).map(|(n, rule)| format!("r{n} ::= {}\n", rule.write()));
        let written = format!("root ::= r0\n{}", named.collect::<String>());
        let simply = |text: &str| {
            let chars: Vec<char> = text.chars().collect();
            rules[0].ends(&rules, &chars, 0).contains(&chars.len())
        };
        let matcher = match made(&grammar(&written), vocabulary()) {
            Ok(matcher) => matcher,
            Err(error) => {
                prop_assert_eq!(error, ConstraintError::Unmeetable, "{}", written);
                prop_assert!(texts().iter().all(|text| !simply(text)), "{}", written);
                return Ok(());
            }
        };
        for text in texts() {
            let mut matcher = matcher.clone();
            matcher.advance(text.as_bytes()).unwrap();
            prop_assert_eq!(matcher.accepts(), simply(&text), "{:?} of {}", text, written);
        }
        let mut at = 0;
        let random = |below: usize| {
            at += 1;
            usize::from(choices[at % choices.len()].rotate_left(at as u32)) % below
        };
        if let Some(text) = draw(&grammar(&written), random) {
            let text = String::from_utf8(text).unwrap();
            // It remembers nothing, so a long text would take it too long.
            prop_assert!(text.chars().count() > 8 || simply(&text), "{text:?} of {written}");
        }
    }
}
