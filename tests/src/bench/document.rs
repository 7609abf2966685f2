//! The report of all sections: into standard output and, between two marks, into docs/performance.md, with its plots beside it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::findings::{self, Finding, Findings, Verdict};
use crate::machine::{self, Cores};
use crate::options::Options;
use crate::sections::Section;
use crate::servers;

/// What stands between these marks is written by `holdfast-bench --all`; the rest of the document is not touched.
const BEGIN: &str = "<!-- holdfast-bench --all writes from here -->";
const END: &str = "<!-- to here -->";
/// The document, and the directory of its plots.
const DOCUMENT: &str = "performance.md";
const PLOTS: &str = "performance";

/// A section that was run.
pub struct Chapter {
    /// Which.
    pub section: &'static Section,
    /// What came out.
    pub result: Result<Findings>,
}

/// The report, in Markdown.
pub fn markdown(options: &Options, cores: &Cores, versions: &str, chapters: &[Chapter]) -> String {
    let mut rows: Vec<Finding> = Vec::new();
    for chapter in chapters {
        match &chapter.result {
            Ok(findings) => rows.extend(findings.rows.iter().cloned()),
            Err(error) => rows.push(Finding {
                work: chapter.section.title.to_owned(),
                measured: format!("**not measured**: {}", one_line(&format!("{error:#}"))),
                goal: String::new(),
                verdict: Verdict::Missed,
            }),
        }
    }
    let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let mut text = format!(
        "{} rows: {} met, {} missed, {} reported without a goal.\n\n",
        rows.len(),
        count(Verdict::Met),
        count(Verdict::Missed),
        count(Verdict::Reported)
    );
    text.push_str(&conditions(options, cores, versions));
    text.push('\n');
    text.push_str(&findings::table(&rows));
    for chapter in chapters {
        write!(text, "\n### {}\n\n", chapter.section.title).expect("writing to a String cannot fail");
        match &chapter.result {
            Ok(findings) => {
                text.push_str(&findings.details);
                for plot in &findings.plots {
                    writeln!(text, "![{}]({PLOTS}/{})", plot.caption, plot.file)
                        .expect("writing to a String cannot fail");
                }
            }
            Err(error) => writeln!(text, "Not measured:\n\n```\n{error:#}\n```")
                .expect("writing to a String cannot fail"),
        }
    }
    format!("{}\n", text.trim_end())
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('|', "/")
}

/// Machine, versions, options.
fn conditions(options: &Options, cores: &Cores, versions: &str) -> String {
    let scale = if options.scale == 1.0 {
        String::new()
    } else {
        format!("\n* **scaled by {}: shorter and smaller than the goals say**", options.scale)
    };
    format!(
        "* {}; {}\n* {versions}\n* both servers, unless a section says something else: cluster nodes that own all slots, \
         `{}`; holdfast-server with `--io-threads 1`; 50 clients, values of 100 bytes, 1 M keys; \
         automatic checkpoints and rewrites only where they are part of what is measured (memory, restart, bytes on disk)\n* medians of the ratios holdfast / \
         redis-server of {} pairs of runs (smallest..largest), server by server in turn{scale}\n",
        machine::describe(),
        cores.describe(),
        servers::OPTIONS.join(" ").replace("--save ", "--save \"\""),
        options.rounds,
    )
}

/// Writes the report and its plots into this directory.
///
/// # Errors
/// When a file cannot be written, or the document has only one of the marks.
pub fn write(directory: &Path, report: &str, chapters: &[Chapter]) -> Result<()> {
    let plots = directory.join(PLOTS);
    std::fs::create_dir_all(&plots).with_context(|| format!("cannot make {}", plots.display()))?;
    for plot in chapters
        .iter()
        .filter_map(|chapter| chapter.result.as_ref().ok())
        .flat_map(|findings| &findings.plots)
    {
        let path = plots.join(&plot.file);
        std::fs::write(&path, &plot.svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let path = directory.join(DOCUMENT);
    let old = match std::fs::read_to_string(&path) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "# Speed\n".to_owned(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let new = replaced(&old, report).with_context(|| path.display().to_string())?;
    std::fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))
}

/// The document with this report between its marks, which are added at the end where there are none.
fn replaced(document: &str, report: &str) -> Result<String> {
    match (document.find(BEGIN), document.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            let (head, tail) = (&document[..begin + BEGIN.len()], &document[end..]);
            Ok(format!("{head}\n\n{report}\n{tail}"))
        }
        (None, None) => Ok(format!("{}\n\n{BEGIN}\n\n{report}\n{END}\n", document.trim_end())),
        _ => bail!("the marks {BEGIN:?} and {END:?} do not stand there once each, in this order"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_takes_the_place_of_the_one_before_and_of_nothing_else() {
        let first = replaced("# Speed\n\nby hand\n", "one\n").unwrap();
        assert_eq!(first, format!("# Speed\n\nby hand\n\n{BEGIN}\n\none\n\n{END}\n"));
        let with_tail = format!("{first}\nmore by hand\n");
        let second = replaced(&with_tail, "two\n").unwrap();
        assert_eq!(second, with_tail.replace("one", "two"));
        assert!(replaced(&format!("{END} {BEGIN}"), "x").is_err());
        assert!(replaced(BEGIN, "x").is_err());
    }
}
