"""Hooks of mkdocs.yml: the files of the repository that make the site, and a page with the help of every command."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from r21d_core.cli import build_parser

# Pages, and what they link to.
PATTERNS = (
    "*.md", "LICENSE", "docs/*.md", "docs/*.png", "docs/*.css", "docs/api/*.md", "*/README.md",
    "data_manifests/*", "notebooks/*.ipynb", "reports/*", "benchmarks/records/*", "r21d_core/study/spec.py",
)  # fmt: skip
FOLDER_LINK = re.compile(r"\[([^]]+)\]\(([\w./-]+)\)")
MARKDOWN_LINK = re.compile(r'(<a href="\.\./[^"#:]*?)(README)?\.md\b')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by the files of PATTERNS, each at its path in the repository."""
    root = Path(config.config_file_path).parent
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    for path in sorted({path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()}):
        name = path.relative_to(root).as_posix()
        if name == "reports/index.html":  # is no Markdown, so its links to pages are not made those of the site
            text = MARKDOWN_LINK.sub(lambda link: f"{link[1]}{'index' * bool(link[2])}.html", path.read_text("utf-8"))
            files.append(File.generated(config, name, content=text))
            continue
        files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, "docs/commands.md", content=describe_commands()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link to the page of a folder, as GitHub does; where the folder has none, to nothing."""
    folder = (Path(config.config_file_path).parent / page.file.src_uri).parent

    def link_page(link: re.Match) -> str:
        text, target = link.groups()
        if not (folder / target).is_dir():
            return link[0]
        name = next((name for name in ("README.md", "index.html") if (folder / target / name).is_file()), "")
        return f"[{text}]({target.rstrip('/')}/{name})" if name else text

    return FOLDER_LINK.sub(link_page, markdown)


def describe_commands() -> str:
    """The help of every command as a page."""
    texts = (f"## {parser.prog}\n\n```\n{parser.format_help()}```\n" for parser in _parsers(build_parser()))
    return "# Commands\n\n" + "\n".join(texts)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _parsers(child)
