"""What of a URL may be told, and what of it says which object it leads to.

Who holds a signed URL may read what it leads to, so its query is a secret; the next signature of
the same object is another text.
"""

from __future__ import annotations

from pathlib import PurePosixPath
import re
from urllib.parse import parse_qsl

# Users and passwords may hold an @: the last one before a path, query or fragment ends them.
_PASSWORD = re.compile(r'(://[^/?#:]*):[^/?#]*@')
_PASSWORD_IN_TEXT = re.compile(r"""(\w://[^\s/?#:'"]*):[^\s/?#'"]*@""")
_QUERY = re.compile(r"""\?[^\s?='"]+=[^\s'"]*""")
_SIGNATURE_PREFIXES = ('x-amz-', 'x-goog-')
_SIGNATURE = {
    *('awsaccesskeyid', 'googleaccessid', 'signature', 'expires'),
    *('policy', 'key-pair-id', 'token'),
}
_AZURE = 'sig'
_BESIDE_AZURE = {
    *('sv', 'ss', 'srt', 'sr', 'sp', 'st', 'se', 'spr', 'sip', 'si', 'ses', 'sdd'),
    *('skoid', 'sktid', 'skt', 'ske', 'sks', 'skv', 'saoid', 'suoid', 'scid'),
}
"""Names that are a signature's only where the one of Azure is: so short that others use them."""


def shown(url: str) -> str:
    """Return a URL as people and files may see it: without its query and password."""
    return _PASSWORD.sub(r'\1@', url.partition('?')[0])


def without_secrets(text: str, url: str) -> str:
    """Return what a library says of a URL, and of those it was led to, as it may be shown."""
    return _PASSWORD_IN_TEXT.sub(r'\1@', _QUERY.sub('', text.replace(url, shown(url))))


def url_name(url: str) -> str:
    """Return the name of the file or folder that a URL leads to."""
    return PurePosixPath(shown(url)).name


def asked(url: str) -> list[tuple[str, str]]:
    """Return what the query of a URL asks for, sorted, without the names of known signatures."""
    pairs = parse_qsl(url.partition('?')[2], keep_blank_values=True)
    known = _SIGNATURE
    if any(name.lower() == _AZURE for name, _ in pairs):
        known = known | {_AZURE} | _BESIDE_AZURE
    return sorted(
        (name, value)
        for name, value in pairs
        if name.lower() not in known and not name.lower().startswith(_SIGNATURE_PREFIXES)
    )
