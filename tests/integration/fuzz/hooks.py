"""Lets every second request of schemathesis be one that ought to succeed.

What it makes up hits what the document says, but hardly ever something that is there: an id, a password,
the token that came in another answer. So every second request goes to something that exists, with the
current state as its condition, and every second one of those with a body that is known to be good. The
others are left as they were made.

At the end, how often each operation was answered with which status is written to a file.
"""

import atexit
import base64
import collections
import hashlib
import hmac
import itertools
import json
import os
import pathlib
import struct
import time
import uuid

import requests
import schemathesis

with open(os.environ["PBX_FUZZ_KNOWN"], encoding="utf-8") as known:
    KNOWN = json.load(known)

NUMBERS = itertools.count(1)
REQUESTS = collections.Counter()
ANSWERS = collections.defaultdict(collections.Counter)

# The steps of time whose codes were used.
STEPS_USED = [0]

# Operations of one's own account, whose second factor and password are to be known here.
OWN = ("/totp", "/totp/confirm", "/totp/remove", "/recovery-codes", "/password")

# What is looked for afresh, because the request uses it up.
USED_UP = ("delete", "purge", "revoke", "end", "unlock", "restore")


class Portal:
    """What is asked beside the requests that are judged, as the same person."""

    def __init__(self):
        self.session = requests.Session()
        self.session.verify = KNOWN["ca"]
        self.session.headers["If-Match"] = "*"
        if KNOWN["token"]:
            self.session.headers["Authorization"] = f"Bearer {KNOWN['token']}"

    def get(self, path):
        answer = self.session.get(KNOWN["url"] + path, timeout=35)
        return answer.json() if answer.status_code == 200 else None

    def post(self, path, body=None):
        answer = self.session.post(KNOWN["url"] + path, json=body, timeout=35)
        return answer.json() if answer.status_code in (200, 201) else None

    def delete(self, path):
        return self.session.delete(KNOWN["url"] + path, timeout=35).status_code == 204


PORTAL = Portal()


def good_body(collection):
    """A body that makes something in a collection."""
    number = next(NUMBERS)
    match collection:
        case "users":
            return {"name": "Fuzzed", "email": f"fuzzed{number}@example.org"}
        case "devices":
            owner = made("users")
            return owner and {"user_id": owner, "label": "Fuzzed", "reveal": False}
        case "tenants":
            return {"slug": f"fuzzed{number}", "name": "Fuzzed", "ext_min": 100, "ext_max": 199}
        case "pbxes":
            return {"name": f"fuzzed{number}", "agent_address": f"127.0.0.1:{number}"}
        case "accounts":
            seat = {"role": "operator", "tenant": "default"}
            return {"login": f"fuzzed{number}", "name": "Fuzzed", **seat}
        case "api-tokens":
            scopes, end = ["users.read"], time.gmtime(time.time() + 86_400)
            expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", end)
            return {"name": f"Fuzzed {number}", "scopes": scopes, "expires_at": expires_at}
    return None


def without_second_factor():
    """Makes the password suffice again."""
    PORTAL.post("/accounts/me/totp/remove", {"password": KNOWN["password"]})


def let_in_again(operation):
    """Waits until the address may try two more passwords, for the sake of the first good requests."""
    if REQUESTS[operation] <= 3:
        time.sleep(6.5)


def opened():
    """A new session."""
    without_second_factor()
    return PORTAL.post("/sessions", {"login": KNOWN["login"], "password": KNOWN["password"]})


def made(collection):
    """The id of something new in a collection, where it can be made."""
    if collection == "sessions":
        session = opened()
        return session and session["id"]
    if collection == "deleted-users":
        user = made("users")
        return user if user and PORTAL.delete(f"/users/{user}") else None
    body = good_body(collection)
    new = body and PORTAL.post(f"/{collection}", body)
    return new["id"] if new else None


def there(collection):
    """The id of something that is there, but nothing that the test itself stands on."""
    ids = [one["id"] for one in PORTAL.get(f"/{collection}?limit=20") or []]
    ids = [one for one in ids if one not in KNOWN["kept"]]
    if collection == "users" and KNOWN["user"]:
        return KNOWN["user"]
    return ids[next(NUMBERS) % len(ids)] if ids else None


def places(case, operation):
    """The values of the path's parameters."""
    path = case.operation.path
    if path.startswith("/tenants/{tenant}/"):
        path = path.removeprefix("/tenants/{tenant}")
        yield "tenant", "default"
    before, brace, after = path.partition("/{")
    if not brace:
        return
    name, _, rest = after.partition("}")
    collection = before.removeprefix("/")
    if collection == "accounts" and rest in OWN:
        yield name, "me"
        return
    of_its_own = operation.startswith(USED_UP) or rest == "/reset"
    found = made(collection) if of_its_own else None
    found = found or there(collection) or made(collection)
    if found and operation.startswith("reveal"):
        # A password that was not shown yet.
        PORTAL.post(f"/devices/{found}/rotate", {"reveal": False})
    if found:
        yield name, found


def code(patient=False):
    """A code of an authenticator app that was just begun with."""
    while patient and STEPS_USED[-1] > int(time.time()) // 30:
        time.sleep(1)
    now = int(time.time()) // 30
    step = max(now, STEPS_USED[-1] + 1)
    # Each step counts once, the next one already; more failures would lock the account out.
    own = {"password": KNOWN["password"]}
    begun = PORTAL.post("/accounts/me/totp", own) if step <= now + 1 else None
    if not begun:
        return None
    STEPS_USED.append(step)
    packed = struct.pack(">Q", step)
    digest = hmac.new(base64.b32decode(begun["secret"]), packed, hashlib.sha1).digest()
    start = digest[-1] & 15
    number = struct.unpack(">I", digest[start : start + 4])[0] & 0x7FFF_FFFF
    return f"{number % 1_000_000:06}"


def recovery_code():
    """A recovery code of a second factor that was just set."""
    without_second_factor()
    confirmation = code()
    own = confirmation and PORTAL.post("/accounts/me/totp/confirm", {"code": confirmation})
    return own["recovery_codes"][0] if own else None


def body_of(operation, path):
    """A body that the operation takes."""
    password = KNOWN["password"]
    match operation:
        case "sign_in":
            # Too many sign-ins without its code would lock it out.
            without_second_factor()
            return {"login": KNOWN["login"], "password": password}
        case "refresh_session":
            session = opened()
            return session and {"refresh_token": session["refresh_token"]}
        case "change_password":
            return {"current_password": password, "new_password": password}
        case "use_password_reset":
            return {"token": KNOWN["reset_token"], "password": password}
        case "begin_totp":
            return {"password": password}
        case "confirm_totp":
            let_in_again(operation)
            without_second_factor()
            confirmation = code(patient=REQUESTS[operation] <= 3)
            return confirmation and {"code": confirmation}
        case "replace_recovery_codes":
            recovery = recovery_code()
            return recovery and {"code": recovery}
        case "remove_totp":
            confirmation = code()
            if confirmation:
                PORTAL.post("/accounts/me/totp/confirm", {"code": confirmation})
            let_in_again(operation)
            return {"password": password}
        case "update_user" | "update_tenant_user":
            # What users may change of themselves.
            return {"dnd": next(NUMBERS) % 2 == 0, "call_forward": {"busy": "+420123456789"}}
        case "update_account" | "update_tenant":
            return {"name": f"Changed {next(NUMBERS)}"}
        case "update_device" | "update_tenant_device":
            return {"label": f"Changed {next(NUMBERS)}", "codecs": ["opus"]}
        case "update_pbx":
            return {"name": f"changed{next(NUMBERS)}"}
        case "import_users" | "import_tenant_users":
            return f"name,email\nFuzzed,fuzzed{next(NUMBERS)}@example.org\n"
        case "import_devices" | "import_tenant_devices":
            owner = PORTAL.get(f"/users/{made('users')}")
            return owner and f"user_email,label\n{owner['email']},Fuzzed\n"
        case "reconcile_declaration" | "reconcile_tenant_declaration":
            return {"users": [{"email": f"fuzzed{next(NUMBERS)}@example.org", "name": "Fuzzed"}]}
    collection = path.removeprefix("/tenants/{tenant}").removeprefix("/")
    return good_body(collection)


def operation_of(case):
    return case.operation.definition.raw["operationId"]


def is_own(case, parameter, word):
    return (case.path_parameters or {}).get(parameter) in (word, *KNOWN["kept"])


@schemathesis.serializer("text/csv")
def as_it_is(ctx, table):
    """Tables are made as text."""
    return table if isinstance(table, bytes) else str(table).encode(errors="replace")


@schemathesis.hook
def before_call(ctx, case, kwargs):
    operation = operation_of(case)
    REQUESTS[operation] += 1
    # What asks with another method is no request of the operation.
    if REQUESTS[operation] % 2 and case.method.upper() == case.operation.method.upper():
        make_good(case, operation)
    elif case.operation.path.endswith(OWN) and is_own(case, "account", "me"):
        # Wrong passwords and codes of its own would lock it out.
        case.path_parameters["account"] = str(uuid.uuid4())
    guesses = isinstance(case.body, dict) and case.body.get("password") != KNOWN["password"]
    if operation == "sign_in" and guesses:
        # Likewise: logins are learnt from answers.
        case.body["login"] = f"nobody{next(NUMBERS)}"
    if operation == "end_session" and is_own(case, "session", "current"):
        # Whoever is nobody is refused everything.
        case.path_parameters["session"] = str(uuid.uuid4())


def make_good(case, operation):
    parameters = dict(places(case, operation))
    case.path_parameters = {**(case.path_parameters or {}), **parameters}
    headers = {parameter.name for parameter in case.operation.headers}
    if "If-Match" in headers:
        case.headers["If-Match"] = "*"
    if operation == "begin_totp":
        let_in_again(operation)
        without_second_factor()
    takes_body = bool(list(case.operation.body))
    # Wrong passwords and codes of its own would lock it out.
    own = takes_body and case.operation.path.endswith(OWN)
    if own or (takes_body and REQUESTS[operation] % 4 == 1):
        body = body_of(operation, case.operation.path)
        if own and not body:
            case.path_parameters["account"] = str(uuid.uuid4())
        if body:
            case.body = body
            case.query = {}


@schemathesis.hook
def after_call(ctx, case, response):
    operation = operation_of(case)
    if case.method.upper() == case.operation.method.upper():
        ANSWERS[operation][response.status_code] += 1


@schemathesis.hook
def filter_failure(ctx, failure, case, response):
    # The schema is that of the whole stream; schemathesis takes it for that of each event. The client
    # of the other tests looks at the events.
    return not type(failure).__name__.startswith("SSE") and "SSE" not in failure.title


@atexit.register
def tell():
    pathlib.Path(KNOWN["answers"]).write_text(json.dumps(ANSWERS), encoding="utf-8")
