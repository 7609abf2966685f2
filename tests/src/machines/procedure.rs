//! Documentation that is carried out: the shell blocks of a page, run as they stand there.

/// The shell blocks below the heading that begins with `heading`, up to the next heading.
///
/// # Panics
/// When the page has no such heading, or no block under it: then the page and the test have parted.
pub fn shell_blocks(page: &str, heading: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    let mut lines = page.lines().skip_while(|line| !line.starts_with('#') || !line.contains(heading)).skip(1);
    let mut is_shell = false;
    for line in lines.by_ref() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(kind)) => (is_shell, block) = (kind == "sh", Some(String::new())),
            (None, None) if line.starts_with('#') => break,
            (None, None) => {}
            (Some(text), Some(_)) => {
                if is_shell {
                    blocks.push(std::mem::take(text));
                }
                block = None;
            }
            (Some(text), None) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    assert!(!blocks.is_empty(), "no shell block under a heading with {heading:?}");
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocks_under_one_heading_are_found() {
        let page = "# A\n```sh\nno\n```\n## Now\ntext\n```sh\n# one\ntwo\n```\n```text\nno\n```\n```sh\nthree\n```\n## B\n```sh\nno\n```\n";
        assert_eq!(shell_blocks(page, "Now"), ["# one\ntwo\n", "three\n"]);
    }
}
