"""The blocks of code on the pages of README and site, and the remarks that steer their tests.

A remark is an HTML comment right before a block, which readers do not see:

- `<!-- not run: REASON -->`: the block is left out. The reason is one of :data:`REASONS`.
- `<!-- fails -->`: the command is meant to end with an error.
- `<!-- output -->`: the block shows lines that the block before it writes; `...` is any text.
"""

import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from processes import ROOT

# What a block may need that a test has not; "minutes" is time.
REASONS = ('ADE20K', 'COCO', 'GPU', 'ImageNet', 'Slurm', 'minutes', 'network')
PAGES = [
    'README.md',
    'CONTRIBUTING.md',
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('docs/*.md')),
    'mmpoolformer/ops/README.md',
]


@dataclass(frozen=True)
class Block:
    """One fenced block, where it stands, and the remark before it."""

    page: str
    line: int
    language: str
    text: str
    remark: str

    @property
    def place(self) -> str:
        return f'{self.page}:{self.line}'

    @property
    def reason(self) -> str | None:
        """Why the block is not run, if it is not."""
        found = re.fullmatch(r'not run: (.+)', self.remark)
        return found[1] if found else None


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    found, remark = [], ''
    for token in MarkdownIt().parse((ROOT / page).read_text(encoding='utf-8')):
        if token.type == 'fence':
            found.append(Block(page, token.map[0] + 1, token.info, token.content, remark))
        comment = re.fullmatch(r'<!-- (.+) -->\n?', token.content) if token.content else None
        remark = comment[1] if token.type == 'html_block' and comment else ''
    return found
