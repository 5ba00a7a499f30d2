"""The demonstration: three modules of one application, each asked about the same recruiter's message.

Only the material is here; `modelrouter demo` asks.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MESSAGE", "PROFILE", "TASKS", "Task"]

MESSAGE = """\
Hi Alex,

I came across your profile while looking for backend engineers with experience in payments, and your work on \
reconciliation at scale caught my eye. I am a talent partner at Northwind Ledger, a Series B company of about 120 \
people that builds accounting infrastructure for online marketplaces.

We are hiring a Senior Backend Engineer for the Settlement team. You would own the services that match bank files with \
our double-entry ledger, about 40 million entries a day, and lead their move from a Django monolith to Python services \
on Kubernetes. The stack is Python 3.12, PostgreSQL, Kafka and a little Go. The team has seven people in Berlin, \
Lisbon and remote within two hours of CET; we meet in Berlin once a quarter.

The salary range is 95,000 to 115,000 euros with equity on top, 30 days of holiday and a learning budget of 2,000 \
euros. The process is short: a call with me, a pairing session on a real ticket, and an afternoon with the team. There \
is no take-home exercise.

Would you have 25 minutes this week or next for a first call? Thursday after 15:00 would suit me well, and I am happy \
to send the full job description beforehand.

Best regards,
Maria Lindqvist"""

PROFILE = """\
Alex Novak, backend engineer, 8 years. Python, PostgreSQL, Kafka; payments and reconciliation for the last four years.
Wants: a senior role, fully remote from Prague, at least 100,000 euros, a small team. Does not want: take-home \
exercises, crypto, more than four trips a year."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one module is asked."""

    module: str
    system: str
    prompt: str


TASKS = (
    Task(
        "analyzer",
        "You read messages from recruiters and say in short what they offer.",
        f"{MESSAGE}\n\n---\nWhich company offers which role, with which stack, pay and place? Answer in one sentence.",
    ),
    Task(
        "scorer",
        "You judge how well an offer fits a candidate.",
        f"The offer:\n{MESSAGE}\n\nThe candidate:\n{PROFILE}\n\n---\nHow well does the offer fit the candidate? "
        "Answer with a score from 0 to 100 and one sentence that says why.",
    ),
    Task(
        "response_generator",
        "You write replies to recruiters in the candidate's name: friendly and honest.",
        f"The message:\n{MESSAGE}\n\nThe candidate:\n{PROFILE}\n\n---\nWrite Alex's reply to Maria in two or three "
        "sentences.",
    ),
)
