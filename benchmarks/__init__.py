"""Speed and memory of models side by side: what the benchmark tools share.

Numbers of one table come from one interleaved run of entries that gave the same features.
"""

from benchmarks.checks import DisagreementError
from benchmarks.report import print_result, write_report
from benchmarks.runner import Plan, Subject, run
from benchmarks.settings import Candidate, Setting

__all__ = [
    'Candidate',
    'DisagreementError',
    'Plan',
    'Setting',
    'Subject',
    'print_result',
    'run',
    'write_report',
]
