"""A user agent builds requests: headers, credentials, and the requests of a transaction.

It owns identity, sequence numbers and Contact. It never sends: values in, requests out.
Section numbers are those of RFC 3261.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, TypedDict, Unpack

from sipdeploy.sip.digest import Challenge, Credentials
from sipdeploy.sip.message import Reply, Request, token, with_headers

if TYPE_CHECKING:
    from sipdeploy.sip.dialog import Dialog

_CHALLENGES = {401, 407}
_WITH_CONTACT = {"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER", "OPTIONS"}
_AGENT = "sipdeploy"


class Options(TypedDict, total=False):
    """Options of every request. `headers` replace, add or (None) remove the usual headers."""

    body: str
    content_type: str  # application/sdp for INVITE, UPDATE, ACK; text/plain for the others
    headers: Mapping[str, str | None]
    from_user: str
    from_domain: str
    to_user: str
    authenticate: bool  # False: send no credentials and answer no challenge
    timeout_seconds: float


@dataclass(slots=True, eq=False)
class UserAgent:
    """The sender of requests. With `gruu`, the Contact in dialogs is a GRUU (RFC 5627)."""

    number: str
    password: str = ""
    _: KW_ONLY
    domain: str
    gruu: bool = True
    instance: str = field(default_factory=lambda: f"urn:uuid:{uuid.uuid4()}")
    pub_gruu: str = field(default="", init=False)
    _host: str = field(default_factory=lambda: f"{token()}.invalid", init=False)
    _user: str = field(default_factory=lambda: token(8), init=False)
    _sequence: int = field(default=0, init=False)
    _credentials: dict[bool, Credentials] = field(default_factory=dict, init=False)

    @property
    def contact(self) -> str:
        """The Contact of dialogs: the public GRUU if the registrar assigned one, as in JsSIP."""
        return f"<{self.pub_gruu or f'sip:{self._user}@{self._host};transport=ws'}>"

    def initial(self, method: str, target: str, options: Options) -> Request:
        """A request outside a dialog to a number or URI, without credentials."""
        uri = target if ":" in target else f"sip:{target}@{self.domain}"
        to = f"sip:{options['to_user']}@{self.domain}" if "to_user" in options else uri
        user = options.get("from_user", self.number)
        sender = f"<sip:{user}@{options.get('from_domain', self.domain)}>;tag={token()}"
        headers = {"From": sender, "To": f"<{to}>", "Call-ID": token(20)}
        self._sequence += 1
        return self._built(Request(method=method, uri=uri), headers, self._sequence, options)

    def in_dialog(self, dialog: Dialog, method: str, **options: Unpack[Options]) -> Request:
        """The next request of a dialog, not sent; increments the sequence of the dialog."""
        if method not in {"ACK", "CANCEL"}:
            dialog.sequence += 1
        uri, routes = dialog.next_hop()
        headers = {"From": dialog.local, "To": dialog.remote, "Call-ID": dialog.call_id}
        if routes:
            headers["Route"] = ", ".join(routes)
        return self._built(Request(method=method, uri=uri), headers, dialog.sequence, options)

    def _built(
        self, bare: Request, headers: dict[str, str], number: int, options: Options
    ) -> Request:
        body, usual = options.get("body", ""), {"Via": self._via(), "Max-Forwards": "70"}
        usual |= headers | {"CSeq": f"{number} {bare.method}", "User-Agent": _AGENT}
        if bare.method in _WITH_CONTACT:
            usual |= {"Contact": self.contact, "Supported": "gruu, outbound"}
        if body:
            is_sdp = bare.method in {"INVITE", "UPDATE", "ACK"}
            usual["Content-Type"] = "application/sdp" if is_sdp else "text/plain"
        if "content_type" in options:
            usual["Content-Type"] = options["content_type"]
        built = with_headers(tuple(usual.items()), options.get("headers", {}))
        return replace(bare, headers=built, body=body)

    def _via(self) -> str:
        return f"SIP/2.0/WSS {self._host};branch=z9hG4bK{token(16)}"

    @staticmethod
    def changed(request: Request, changes: Mapping[str, str | None]) -> Request:
        """The request with some headers replaced, added or (None) removed."""
        return replace(request, headers=with_headers(request.headers, changes))

    def on_transaction(self, invite: Request, method: str, reply: Reply | None = None) -> Request:
        """The CANCEL of an INVITE (section 9.1), or the ACK of its failure (17.1.1.3)."""
        kept = {"via", "from", "to", "call-id", "route", "max-forwards"}
        headers = tuple(pair for pair in invite.headers if pair[0].lower() in kept)
        changes = {"To": (reply or invite).header("To"), "CSeq": f"{invite.cseq[0]} {method}"}
        request = Request(method=method, uri=invite.uri, headers=headers)
        return self.changed(request, changes)

    def takes_challenge(self, reply: Reply, attempts: int) -> bool:
        """Whether to send the request again: once, and once more if only the nonce was stale."""
        if reply.status not in _CHALLENGES:
            return False
        challenge = Challenge.from_reply(reply)
        is_register = reply.cseq[1] == "REGISTER"
        login = Credentials(user=self.number, password=self.password, challenge=challenge)
        self._credentials[is_register] = login
        return attempts == 1 or (attempts == 2 and challenge.stale)  # noqa: PLR2004

    def again(self, request: Request) -> Request:
        """The challenged request with a new branch, the next sequence, and credentials."""
        number, method = request.cseq
        self._sequence = max(self._sequence, number + 1)
        changes = {"Via": self._via(), "CSeq": f"{number + 1} {method}"}
        return self.signed(self.changed(request, changes))

    def signed(self, request: Request) -> Request:
        """The request with the credentials of the last challenge, if there are any."""
        login = self._credentials.get(request.method == "REGISTER")
        if login is None or request.method in {"ACK", "CANCEL"}:
            return request
        name, value = login.header(request.method, request.uri)
        cleared: dict[str, str | None] = {"Authorization": None, "Proxy-Authorization": None}
        return self.changed(request, cleared | {name: value})
