"""Badges in the format of shields.io: https://shields.io/badges/endpoint-badge."""

from __future__ import annotations

import json

from dreamer4_conformance.report import Report, counts


def badge(report: Report) -> str:
    """JSON of an endpoint badge: how many of the provided clauses pass.

    Args:
        report: on one implementation; quality clauses are left out.

    Returns:
        JSON text. The colour is green without failures, else orange, and grey if nothing was judged.

    Example:
        >>> print(badge(Report({}, {}, [])).strip())
        {"schemaVersion": 1, "label": "Dreamer 4 conformance", "message": "nothing judged", "color": "lightgrey"}
    """
    count = counts(report.conformance)
    failed = count["failed"] + count["known_failures"] + count["unexpected_passes"]
    provided = count["provided"]
    message = f"{count['conforming']} of {provided} clauses pass" if provided else "nothing judged"
    colour = "lightgrey" if not provided else "orange" if failed else "brightgreen"
    document = {"schemaVersion": 1, "label": "Dreamer 4 conformance", "message": message, "color": colour}
    return json.dumps(document) + "\n"
