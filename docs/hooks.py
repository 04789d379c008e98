"""What the site needs beside mkdocs: links into the repository, and docstrings that read well."""

import os
import re
from pathlib import Path, PurePosixPath

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r'(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)')
INCLUDE = re.compile(r'^<!-- include: (\S+) -->$', re.MULTILINE)


def on_page_markdown(markdown, page, config, files):
    """Paste included files, and bring what pages link to in the repository along as text."""
    markdown = INCLUDE.sub(lambda found: _paste(found[1]), markdown)

    def bring(found):
        target = os.path.normpath(PurePosixPath(page.file.src_uri).parent / found[1])
        if not target.startswith('../') or not (ROOT / 'docs' / target).is_file():
            return found[1]
        name = f'repository/{target[3:]}.txt'
        if name not in files.src_uris:
            content = (ROOT / 'docs' / target).read_text(encoding='utf-8')
            files.append(File.generated(config, name, content=content))
        return os.path.relpath(name, PurePosixPath(page.file.src_uri).parent)

    return LINK.sub(bring, markdown)


def _paste(path):
    """Return a Markdown file of the repository without its title, its links seen from the page."""
    text = (ROOT / path).read_text(encoding='utf-8').partition('\n')[2]
    folder = PurePosixPath('..', path).parent
    return LINK.sub(
        lambda found: os.path.normpath(folder / found[1]).removeprefix('../docs/'), text
    )


class TidyDocstrings(griffe.Extension):
    """Makes sections of `Example:`, and plain code of Sphinx's roles."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            text = re.sub(r'^Example:$', 'Examples:', obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r':[a-z]+:`~?([^`]+)`', r'`\1`', text)
