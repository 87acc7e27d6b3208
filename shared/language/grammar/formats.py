"""The formats of JSON Schema (Draft 2020-12 validation, section 7.3) as patterns that are never too wide.

A date is one that every year has; a name is an ordinary one. Unknown formats are remarks and constrain nothing.
"""

_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2})"
_DATE = (
    rf"{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_REST = r"(?:/[A-Za-z0-9._~-]{0,64}){0,8}(?:\?[A-Za-z0-9._~=&-]{0,256})?(?:#[A-Za-z0-9._~-]{0,64})?"

FORMATS = {
    "date": rf"^{_DATE}$",
    "time": rf"^{_CLOCK}{_ZONE}$",
    "date-time": rf"^{_DATE}T{_CLOCK}{_ZONE}$",
    "duration": r"^P(?:[0-9]{1,6}W|[0-9]{1,6}D(?:T[0-9]{1,6}H)?|T(?:[0-9]{1,6}H)?[0-9]{1,6}M|T[0-9]{1,6}S)$",
    "email": rf"^[A-Za-z0-9_+-]{{1,32}}(?:\.[A-Za-z0-9_+-]{{1,16}}){{0,2}}@{_LABEL}(?:\.{_LABEL}){{1,3}}$",
    "hostname": rf"^{_HOST}$",
    "ipv4": rf"^{_BYTE}(?:\.{_BYTE}){{3}}$",
    "ipv6": r"^[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}$",
    "uri": rf"^https?://{_HOST}{_REST}$",
    "uri-reference": rf"^(?:https?://{_HOST}{_REST}|/[A-Za-z0-9._~/-]{{0,256}})$",
    "uuid": r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "json-pointer": r"^(?:/[A-Za-z0-9._-]{0,64}){0,8}$",
    "regex": r"^[A-Za-z0-9 ]{0,64}$",
}
FORMATS |= {"idn-email": FORMATS["email"], "idn-hostname": FORMATS["hostname"], "iri": FORMATS["uri"]}
FORMATS |= {"iri-reference": FORMATS["uri-reference"]}
