"""Writes the tables and figures of README and docs from the records in benchmarks/records and from tables of the code.

    python scripts/tables.py                    # rewrite what stands between markers
    python scripts/tables.py check              # fail if anything would change
    python scripts/tables.py run                # measure again, resumable, then rewrite
    python scripts/tables.py plan               # what that takes, from what runs took
    python scripts/tables.py record OUT NAME COMMAND...    # a record of the folder of "cloisonne evaluate"

A table stands between "<!-- table: RECORD/TABLE -->" and "<!-- end -->", the commands of a record between
"<!-- commands: RECORD -->" and "<!-- end -->", the legend of a benchmark's columns between "<!-- legend: BENCHMARK -->"
and "<!-- end -->", all records between "<!-- records -->" and "<!-- end -->", a figure in a sentence between
"<!-- figure: RECORD/TABLE/ROW/COLUMN -->" and "<!-- -->"; after a "|" stand the options of a figure: value (no
interval), negated, or a number of decimals. The RECORD/TABLE of a table of the code is in CODE. MODEL_CARD.md is
written from the weights.
"""

import argparse
import re
import sys
from pathlib import Path

import memory
import oracles
from cloisonne.eval import control_tables, edits, exemplars, mixed, tables, translations
from cloisonne.methods import kinds, region_options
from costs import planned
from measurements import RUNS, Trial, record_of, run_all
from model_card import card
from records import FOLDER, ROOT, RecordError, Records

TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)
COMMANDS = re.compile(r"(<!-- commands: (\S+) -->\n).*?(<!-- end -->)", re.S)
CODE = {
    "conditions/support": kinds.markdown,
    "conditions/options": region_options.markdown,
    "shapes/memory": memory.markdown,
    "oracles/pipelines": oracles.pipelines,
    "oracles/networks": oracles.networks,
}
LEGEND = re.compile(r"(<!-- legend: (\S+) -->\n).*?(<!-- end -->)", re.S)
RECORDS = re.compile(r"(<!-- records -->\n).*?(<!-- end -->)", re.S)
FIGURE = re.compile(r"(<!-- figure: ([^>|]+?)(?: \| ([^>]+?))? -->).*?(<!-- -->)", re.S)

LEGENDS = {
    "layouts": tables.LEGEND,
    "control": control_tables.LEGEND,
    "exemplars": exemplars.LEGEND,
    "edits": edits.LEGEND,
    "translations": translations.LEGEND,
    "mixed": mixed.LEGEND,
}
"""What the columns mean, by benchmark: a heading and the text that the command prints."""


def pages() -> list[Path]:
    """README and docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rendered(text: str, records: Records) -> str:
    """A page with its tables and figures from the records. Raises RecordError for one that no record has."""

    def table(found: re.Match[str]) -> str:
        begin, path, end = found.groups()
        made = f"{CODE[path]()}\n" if path in CODE else records.table(path).markdown()
        return f"{begin}\n{made}\n{end}"

    def commands(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        lines = "".join(f"    {line}\n" for line in records.record(name)["commands"])
        return f"{begin}\n{lines}\nMeasured with {records.source(name)}.\n\n{end}"

    def legend(found: re.Match[str]) -> str:
        begin, name, end = found.groups()
        if name not in LEGENDS:
            raise RecordError(f'There is no benchmark "{name}" with a legend.')
        return f"{begin}\n{LEGENDS[name].partition(chr(10))[2].strip()}\n\n{end}"

    def listed(found: re.Match[str]) -> str:
        begin, end = found.groups()
        return f"{begin}\n{records.listed({run.record for run in RUNS})}\n{end}"

    def figure(found: re.Match[str]) -> str:
        begin, path, options, end = found.groups()
        names = frozenset(option.strip() for option in (options or "").split(",") if option)
        return begin + records.figure(path, names) + end

    for pattern, written in ((TABLE, table), (COMMANDS, commands), (LEGEND, legend), (RECORDS, listed)):
        text = pattern.sub(written, text)
    return FIGURE.sub(figure, text)


def changed() -> dict[Path, str]:
    """The new text of every page that differs from its records."""
    records = Records()
    texts = {page: rendered(page.read_text("utf-8"), records) for page in pages()} | {ROOT / "MODEL_CARD.md": card()}
    return {page: text for page, text in texts.items() if page.read_text("utf-8") != text}


def parser() -> argparse.ArgumentParser:
    """The options of the script."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = made.add_subparsers(dest="verb")
    verbs.add_parser("check")
    plan = verbs.add_parser("plan")
    plan.add_argument("--only", nargs="+", metavar="RECORD", help="names of records (all)")
    record = verbs.add_parser("record")
    record.add_argument("out", type=Path, help="folder of a finished run of cloisonne evaluate")
    record.add_argument("name", help="name of the record")
    record.add_argument("command", nargs=argparse.REMAINDER, help="the command that measured it")
    run = verbs.add_parser("run")
    run.add_argument("--out", type=Path, default=ROOT / "runs" / "tables", help="folder of the items (runs/tables)")
    run.add_argument("--records", type=Path, default=FOLDER, help="folder of the records (benchmarks/records)")
    run.add_argument("--limit", type=int, help="at most this many items of each benchmark, to try it")
    run.add_argument("--again", action="store_true", help="once more, to note what the start of a run takes")
    run.add_argument("--device", default="", help="device of the evaluations (cpu)")
    run.add_argument("--jobs", type=int, default=2, help="commands at a time (2)")
    run.add_argument("--only", nargs="+", metavar="RECORD", help="names of records (all)")
    return made


def main() -> None:
    """Render, check, record, plan or run."""
    options = parser().parse_args()
    if options.verb == "record":
        print(record_of(options.out, options.name, [" ".join(options.command)]))
        return
    chosen = [run for run in RUNS if run.record in (getattr(options, "only", None) or [run.record])]
    if options.verb == "plan":
        print(planned(chosen))
        return
    if options.verb == "run":
        trial = Trial(limit=options.limit, device=options.device, records=options.records, again=options.again)
        run_all(chosen, options.out.resolve(), trial, options.jobs)
        if options.records != FOLDER:
            return
    try:
        texts = changed()
    except RecordError as error:
        sys.exit(str(error))
    for page, text in texts.items():
        if options.verb == "check":
            print(f"{page.relative_to(ROOT)} differs from its records: run make tables")
        else:
            page.write_text(text, "utf-8")
            print(f"Wrote {page.relative_to(ROOT)}")
    sys.exit(bool(texts) and options.verb == "check")


if __name__ == "__main__":
    main()
