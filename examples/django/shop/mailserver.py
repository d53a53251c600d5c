"""Stands in for a mail server: writes mails to files, and is as difficult as some servers are.

An address at greylist.example is refused the first time, as greylisting does; one at nowhere.example for good.
"""

from __future__ import annotations

import smtplib
from pathlib import Path
from typing import Any

from django.core.mail.backends.filebased import EmailBackend


class MoodyBackend(EmailBackend):
    """Django's file backend, behind these refusals."""

    def send_messages(self, email_messages: Any) -> int:
        for message in email_messages:
            for address in message.recipients():
                self._receive(address)
        return int(super().send_messages(email_messages) or 0)

    def _receive(self, address: str) -> None:
        if address.endswith("@nowhere.example"):
            raise smtplib.SMTPRecipientsRefused({address: (550, b"no such mailbox")})
        met = Path(self.file_path) / f"met-{address}"
        if address.endswith("@greylist.example") and not met.exists():
            met.touch()
            raise smtplib.SMTPResponseException(451, "greylisted, please try again later")
