//! The documentation page of the rules.

use std::fmt::Write;

use super::catalog::all;
use super::group::Group;

/// Makes the documentation page of all rules, in Markdown. `docs/RULES.md` is this page.
#[must_use]
pub fn page() -> String {
    let planned = all().filter(|rule| rule.planned().is_some()).count();
    let mut page = format!(
        "# Rules\n\n\
         `cargo run --example rules_page > docs/RULES.md` makes this page from the rules in the \
         code.\n\n\
         The catalogue has {} rules. The harness can check {} of them. The number of planned rules \
         is {planned}. The harness checks a rule only if the supervisor's profile declares what \
         the rule needs. Otherwise the verdict is `unsupported`, which does not count as a \
         pass.\n\n\
         You can also let the rules judge a timeline of your own. Some rules have a line \
         \"Judges\". It names a situation that a timeline alone does not show. The conformance \
         suite creates this situation in the rule's own trial. On any other timeline, such a rule \
         gets the verdict `unknown` where its own trial would give `fail`.\n",
        all().count(),
        all().count() - planned,
    );
    let mut group: Option<Group> = None;
    for rule in all() {
        if group != Some(rule.group) {
            group = Some(rule.group);
            push(&mut page, format_args!("\n## {}\n", rule.group.title()));
        }
        push(&mut page, format_args!("\n### `{}`\n\n", rule.id));
        push(&mut page, format_args!("{}.\n\n", capital(rule.invariant)));
        push(&mut page, format_args!("{}\n\n", rule.rationale));
        push(&mut page, format_args!("- Origin: {}\n", rule.origin));
        if let Some(bug) = rule.bug {
            push(&mut page, format_args!("- Seen in: {bug}\n"));
        }
        if !rule.needs.is_empty() {
            let needs: Vec<&str> = rule.needs.iter().map(|need| need.text()).collect();
            push(&mut page, format_args!("- Needs: {}\n", needs.join(", ")));
        }
        if let Some(about) = rule.about() {
            push(&mut page, format_args!("- Judges: {about}\n"));
        }
        if let Some(reason) = rule.planned() {
            push(&mut page, format_args!("- Planned: {reason}\n"));
        }
    }
    page
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = page.write_fmt(text);
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}
