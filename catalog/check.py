#!/usr/bin/env python3
"""Checks the form of every file of the catalog, and writes them as documents for `hallpass apply`.

    check.py                     check everything; the exit code says whether all is well
    check.py --expand FOLDER     also write each upstream file that needs nothing new as a document for `hallpass apply`

It wants Python 3.9 and PyYAML. README.md says what the fields mean.
"""

import json
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml

HERE = Path(__file__).resolve().parent
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
SCOPE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
VARIABLE = re.compile(r"\{\{([a-z_]+)\}\}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
# What a placement must say. The kinds of the first line can be applied today.
PLACEMENTS = {
    "bearer": set(), "header": {"name"}, "basic": {"username"}, "query": {"name"},
    "sigv4": {"region", "service"}, "path": set(),
}
TODAY = {"bearer", "header", "basic", "query"}
PLACEMENT_FIELDS = {"kind", "credential", "name", "prefix", "username", "region", "service"}
CATALOG = {
    "title": str, "about": str, "docs": str, "source": list, "provider": str, "key_hint": str, "sdk_key_shape": str,
    "sdk_env": dict, "variables": list, "needs": list, "test": dict,
}
CATALOG_REQUIRED = {"title", "about", "docs", "source", "test"}
NEEDS = {"sigv4", "path"}
UPSTREAM = {
    "name", "base_url", "inject", "operations", "headers", "set_headers", "authorization_schemes", "public_hosts",
    "timeouts", "limits", "allow_range", "audit",
}
PROVIDER = {
    "name": str, "title": str, "source": list, "issuer": str, "authorization_url": str, "token_url": str,
    "revocation_url": str, "device_authorization_url": str, "account": dict, "pkce": str, "client_auth": str,
    "scope_separator": str, "scopes": dict, "iss_parameter": bool, "refresh": dict, "oddities": list,
    "extra_authorization_parameters": dict, "extra_token_parameters": dict, "base_url_from": str, "base_hosts": list,
    "access_token_pointer": str, "variables": list, "token_answer_example": dict,
}
PROVIDER_REQUIRED = {"name", "title", "source", "authorization_url", "token_url", "scope_separator"}
PKCE = {"required", "supported", "no"}
CLIENT_AUTH = {"client_secret_basic", "client_secret_post", "none"}
ODDITIES = {
    "no_expires_in", "expires_in_string", "no_refresh_token", "no_refresh_token_on_refresh", "no_token_type",
    "no_scope", "json_body", "errors_with_200", "comma_scopes", "form_answer", "access_token_elsewhere",
    "scope_in_array",
}
# Registries of packages, by name and endings. Many people use a mirror, so their hosts are variables. The hosts are put
# together below, so that this file does not name them either.
REGISTRIES = {
    "crates": ["io"], "docker": ["io"], "npmjs": ["com", "org"], "packagist": ["org"], "pypi": ["org"],
    "pythonhosted": ["org"], "rubygems": ["org"], "yarnpkg": ["com"], "nuget": ["org"], "hub.docker": ["com"],
    "repo.maven.apache": ["org"], "repo1.maven": ["org"], "proxy.golang": ["org"], "sum.golang": ["org"],
}
HOSTS = "|".join(re.escape(f"{name}.{end}") for name, ends in REGISTRIES.items() for end in ends)
REGISTRY = re.compile(rf"(?<![\w-])({HOSTS})(?![\w-])", re.IGNORECASE)
SECRET_FIELDS = {"access_token", "refresh_token", "id_token"}


class Report:
    """The problems found so far."""

    def __init__(self):
        self.problems = []

    def add(self, where, what):
        self.problems.append(f"{where}: {what}")


class Loader(yaml.SafeLoader):
    """YAML that refuses a key that stands twice: the second would silently win."""


def unique_mapping(loader, node, deep=False):
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=deep)
        if key in seen:
            raise yaml.YAMLError(f"the key {key!r} stands twice, line {key_node.start_mark.line + 1}")
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, unique_mapping)


def check_registries(path, report):
    """No file names a host of a registry of packages."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for host in REGISTRY.findall(line):
            report.add(f"{path.name}:{number}", f"names the registry '{host}': make the host a variable")


def load(path, report):
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except yaml.YAMLError as error:
        report.add(path.name, f"is no YAML: {error}")
        return None


def check_fields(where, value, types, required, report):
    """Known fields of the right type, and the required ones; whether the rest can be looked at."""
    if not isinstance(value, dict):
        report.add(where, "must be a map")
        return False
    for name, field in value.items():
        if name not in types:
            report.add(where, f"has an unknown field '{name}'")
        elif not isinstance(field, types[name]) or (types[name] is not bool and isinstance(field, bool)):
            report.add(where, f"'{name}' must be of type {types[name].__name__}")
    for name in sorted(required - value.keys()):
        report.add(where, f"'{name}' is missing")
    return True


def check_url(where, text, report):
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.netloc or parts.username:
        report.add(where, f"'{text}' is no https URL")
    if re.search(r"\s", text):
        report.add(where, f"'{text}' holds a blank")


def check_sources(where, sources, report):
    if not sources:
        report.add(where, "'source' names no page")
    for source in sources:
        check_url(where, source, report)
    if len(set(sources)) != len(sources):
        report.add(where, "'source' names a page twice")


def check_variables(where, text, variables, report):
    """Every variable is declared, has an example and is used."""
    declared = {}
    for one in variables:
        if not isinstance(one, dict) or set(one) != {"name", "example", "about"}:
            report.add(where, "a variable takes 'name', 'example' and 'about'")
            continue
        if one["name"] in declared:
            report.add(where, f"the variable '{one['name']}' is declared twice")
        declared[one["name"]] = str(one["example"])
    used = set(VARIABLE.findall(text))
    for name in sorted(used - declared.keys()):
        report.add(where, f"the variable '{name}' is used and not declared")
    for name in sorted(declared.keys() - used):
        report.add(where, f"the variable '{name}' is declared and not used")
    return declared


def filled(value, variables):
    if isinstance(value, dict):
        return {key: filled(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, variables) for one in value]
    if isinstance(value, str):
        return VARIABLE.sub(lambda match: variables.get(match[1], match[0]), value)
    return value


def check_template(where, path, report):
    if not path.startswith("/"):
        report.add(where, f"the path '{path}' must begin with '/'")
    segments = path.split("/")[1:]
    names = []
    for number, segment in enumerate(segments):
        if "{" in segment or "}" in segment:
            match = re.fullmatch(r"\{(\*?)([a-zA-Z_][a-zA-Z0-9_]*)\}", segment)
            if not match:
                report.add(where, f"'{segment}' is no template: a parameter is a whole segment")
                continue
            if match[1] and number != len(segments) - 1:
                report.add(where, f"'{segment}' must be the last segment")
            names.append(match[2])
        elif not segment and number != len(segments) - 1:
            report.add(where, f"the path '{path}' has an empty segment")
        elif not re.fullmatch(r"[A-Za-z0-9._~!$&'()+,;=:@%-]*", segment):
            report.add(where, f"'{segment}' is not in canonical form")
    if len(set(names)) != len(names):
        report.add(where, f"the path '{path}' has two parameters of one name")


def fits(template, path):
    parts = []
    for segment in template.split("/")[1:]:
        if segment.startswith("{*"):
            parts.append(".*")
        elif segment.startswith("{"):
            parts.append("[^/]+")
        else:
            parts.append(re.escape(segment))
    return re.fullmatch("/" + "/".join(parts), path.split("?")[0]) is not None


def check_placement(where, placement, report):
    """The kind of a placement; none where it cannot be told."""
    if not isinstance(placement, dict) or placement.get("kind") not in PLACEMENTS:
        report.add(where, f"{placement!r} is no placement")
        return None
    kind = placement["kind"]
    for name in sorted(({"credential"} | PLACEMENTS[kind]) - placement.keys()):
        report.add(where, f"the placement {kind} takes '{name}'")
    for name in sorted(placement.keys() - PLACEMENT_FIELDS):
        report.add(where, f"the placement {kind} has an unknown field '{name}'")
    if not NAME.fullmatch(str(placement.get("credential", ""))):
        report.add(where, "the name of the credential must be lower case with '-'")
    return kind


def check_inject(where, inject, report):
    """What of it cannot be applied today."""
    if inject == "none":
        return set()
    placements = inject if isinstance(inject, list) else [inject]
    kinds = {check_placement(where, one, report) for one in placements} - {None}
    return kinds - TODAY


def check_operations(where, operations, report):
    ids, forms, scopes = set(), set(), set()
    if not isinstance(operations, list) or not 1 <= len(operations) <= 40:
        report.add(where, "has between 1 and 40 operations")
        return ids, scopes
    for operation in operations:
        at = f"{where} {operation.get('id')}"
        missing = {"id", "methods", "path", "scope"} - operation.keys()
        unknown = operation.keys() - {"id", "methods", "path", "scope", "encoded_slash"}
        if missing or unknown:
            report.add(at, f"fields are wrong: missing {sorted(missing)}, unknown {sorted(unknown)}")
            continue
        if operation["id"] in ids:
            report.add(at, "the id stands twice")
        ids.add(operation["id"])
        if not NAME.fullmatch(operation["id"]):
            report.add(at, "the id must be lower case with '-'")
        if not operation["methods"] or set(operation["methods"]) - METHODS:
            report.add(at, f"{operation['methods']} are no methods")
        check_template(at, operation["path"], report)
        if not SCOPE.fullmatch(operation["scope"]):
            report.add(at, f"'{operation['scope']}' is no scope")
        scopes.add(operation["scope"])
        form = re.sub(r"\{(\*?)[^}]*\}", r"{\1}", operation["path"])
        for method in operation["methods"]:
            if (method, form) in forms:
                report.add(at, f"{method} {operation['path']} stands twice")
            forms.add((method, form))
            if method == "DELETE" and operation["scope"].endswith(".read"):
                report.add(at, "DELETE must not take a scope that reads")
    return ids, scopes


def check_test(where, test, upstreams, variables, report):
    unknown = test.keys() - {"operation", "upstream", "path", "body", "content_type", "headers"}
    if unknown:
        report.add(where, f"'test' has unknown fields {sorted(unknown)}")
    name = test.get("upstream", upstreams[0].get("name"))
    found = [
        operation
        for upstream in upstreams if upstream.get("name") == name
        for operation in upstream.get("operations", []) if operation.get("id") == test.get("operation")
    ]
    if not found:
        report.add(where, f"'test' names no operation: {test}")
        return
    path = found[0]["path"]
    if "{" in path and "path" not in test:
        report.add(where, f"'test' must give a 'path', as {path} has parameters")
    if "path" in test and not fits(path, filled(test["path"], variables)):
        report.add(where, f"the path of 'test' does not fit {path}")
    method = found[0]["methods"][0]
    if method not in {"GET", "HEAD"} and "body" not in test:
        report.add(where, f"'test' must be a GET, or give a harmless 'body': it is {method}")
    if "body" in test and "content_type" not in test:
        report.add(where, "'test' with a 'body' must give its 'content_type'")


def check_upstreams(where, document, providers, report):
    """The document for `hallpass apply`, with examples for its variables; none where it needs what is not there yet."""
    if document is None or not check_fields(
        where, document, {"catalog": dict, "upstreams": list, "roles": list}, {"catalog", "upstreams"}, report
    ):
        return None
    catalog, upstreams = document.get("catalog", {}), document.get("upstreams", [])
    check_fields(f"{where} catalog", catalog, CATALOG, CATALOG_REQUIRED, report)
    check_sources(where, catalog.get("source", []), report)
    check_url(where, catalog.get("docs", ""), report)
    if not catalog.get("about", "").endswith(".") or len(catalog.get("about", "")) > 120:
        report.add(where, "'about' must be one sentence of at most 120 characters")
    if "provider" in catalog and catalog["provider"] not in providers:
        report.add(where, f"there is no provider '{catalog['provider']}'")
    for name in catalog.get("sdk_env", {}):
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            report.add(where, f"'{name}' is no environment variable")
    text = json.dumps({"upstreams": upstreams, "test": catalog.get("test")})
    variables = check_variables(where, text, catalog.get("variables", []), report)
    needs, scopes, names = set(), set(), []
    for upstream in upstreams:
        name = str(upstream.get("name"))
        at = f"{where} {name}"
        names.append(name)
        if name != where and not name.startswith(where + "-"):
            report.add(at, f"the name must be '{where}' or begin with '{where}-'")
        if not NAME.fullmatch(name):
            report.add(at, "the name must be lower case with '-'")
        for field in sorted(upstream.keys() - UPSTREAM):
            report.add(at, f"has an unknown field '{field}'")
        base = filled(str(upstream.get("base_url", "")), variables)
        check_url(at, base, report)
        if base.endswith("/"):
            report.add(at, "base_url must not end with '/'")
        needs |= check_inject(at, upstream.get("inject"), report)
        _, own = check_operations(at, upstream.get("operations"), report)
        scopes |= {f"{name}:{scope}" for scope in own}
    if not names or names[0] != where or len(set(names)) != len(names):
        report.add(where, "the first upstream must be named as the file, and no name may stand twice")
    for need in catalog.get("needs", []):
        if need not in NEEDS:
            report.add(where, f"'needs' knows {sorted(NEEDS)}, not '{need}'")
    if set(catalog.get("needs", [])) != needs:
        report.add(where, f"'needs' must be {sorted(needs)}")
    if isinstance(catalog.get("test"), dict) and upstreams:
        check_test(where, catalog["test"], upstreams, variables, report)
    for role in document.get("roles", []):
        if not str(role.get("name", "")).startswith(where + "-"):
            report.add(where, f"the role '{role.get('name')}' must begin with '{where}-'")
        for scope in role.get("scopes", []):
            if scope not in scopes:
                report.add(where, f"the role '{role['name']}' names a scope that no operation takes: {scope}")
    if needs:
        return None
    return filled({key: value for key, value in document.items() if key != "catalog"}, variables)


def pointer(value, text):
    for part in text.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            value = value[int(part)] if part.isdigit() and int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def check_token_answer(where, provider, report):
    """The example answers as the fields say. Without an example nothing is known of the answer's shape."""
    if "token_answer_example" not in provider:
        return
    answer, oddities = provider.get("token_answer_example", {}), set(provider.get("oddities", []))
    token = pointer(answer, provider.get("access_token_pointer", "/access_token"))
    if not isinstance(token, str):
        report.add(where, "token_answer_example holds no access token where the fields say")
    if ("access_token_pointer" in provider) != ("access_token_elsewhere" in oddities):
        report.add(where, "access_token_pointer and access_token_elsewhere go together")
    expiry = answer.get("expires_in")
    if ("no_expires_in" in oddities) != (expiry is None):
        report.add(where, "no_expires_in and token_answer_example do not agree")
    if ("expires_in_string" in oddities) != isinstance(expiry, str):
        report.add(where, "expires_in_string and token_answer_example do not agree")
    if "no_token_type" in oddities and "token_type" in answer:
        report.add(where, "no_token_type and token_answer_example do not agree")
    if "no_refresh_token" in oddities and "refresh_token" in answer:
        report.add(where, "no_refresh_token and token_answer_example do not agree")
    if "base_url_from" in provider:
        base = pointer(answer, provider["base_url_from"])
        hosts = provider.get("base_hosts", [])
        host = urlsplit(base if "://" in str(base) else f"https://{base}").hostname or ""
        if not base or not any(host == one or (one.startswith("*.") and host.endswith(one[1:])) for one in hosts):
            report.add(where, "base_url_from leads to no host of base_hosts")
    # Tokens must be recognisable as made up: no scanner and no reader takes one for a leaked secret.
    for name in SECRET_FIELDS & answer.keys():
        if "example" not in str(answer[name]).lower():
            report.add(where, f"{name} in token_answer_example must hold the word EXAMPLE")


def check_provider(name, provider, report):
    where = f"provider {name}"
    if provider is None or not check_fields(where, provider, PROVIDER, PROVIDER_REQUIRED, report):
        return
    if provider.get("name") != name or not NAME.fullmatch(name):
        report.add(where, "the name must be that of the file, lower case with '-'")
    check_sources(where, provider.get("source", []), report)
    variables = check_variables(where, json.dumps({k: v for k, v in provider.items() if k != "variables"}),
                                provider.get("variables", []), report)
    for field in ("issuer", "authorization_url", "token_url", "revocation_url", "device_authorization_url"):
        if field in provider:
            check_url(where, filled(provider[field], variables), report)
    for field, allowed in (("pkce", PKCE), ("client_auth", CLIENT_AUTH)):
        if field in provider and provider[field] not in allowed:
            report.add(where, f"'{field}' knows {sorted(allowed)}")
    if provider.get("scope_separator") not in {" ", ",", "+"}:
        report.add(where, "'scope_separator' is ' ', ',' or '+'")
    oddities = provider.get("oddities", [])
    if ("comma_scopes" in oddities) != (provider.get("scope_separator") == ","):
        report.add(where, "comma_scopes and scope_separator do not agree")
    for oddity in sorted(set(oddities) - ODDITIES):
        report.add(where, f"'{oddity}' is no oddity that check.py knows")
    refresh = provider.get("refresh", {})
    if refresh.keys() - {"rotates", "url"} or refresh.get("rotates", "unknown") not in (True, False, "unknown"):
        report.add(where, "'refresh' takes rotates (true, false, unknown) and url")
    if "url" in refresh:
        check_url(where, filled(refresh["url"], variables), report)
    account = provider.get("account", {})
    if account:
        unknown = account.keys() - {"url", "method", "pointer", "body", "headers", "from"}
        if unknown or not str(account.get("pointer", "")).startswith("/"):
            report.add(where, "'account' takes url or from, pointer, method, body and headers")
        if ("url" in account) == ("from" in account):
            report.add(where, "'account' takes either url or from: token_answer")
        if "url" in account:
            check_url(where, filled(account["url"], variables), report)
        elif account.get("from") != "token_answer":
            report.add(where, "'account.from' is token_answer")
        elif pointer(provider.get("token_answer_example", {}), account.get("pointer", "/")) is None:
            report.add(where, "'account.pointer' leads nowhere in token_answer_example")
    check_token_answer(where, provider, report)


def main(arguments):
    report = Report()
    for path in sorted(HERE.rglob("*")):
        if path.is_file():
            check_registries(path, report)
    providers = {path.stem: load(path, report) for path in sorted((HERE / "providers").glob("*.yaml"))}
    files = {path.stem: load(path, report) for path in sorted((HERE / "upstreams").glob("*.yaml"))}
    for name, provider in providers.items():
        check_provider(name, provider, report)
    documents = {name: check_upstreams(name, document, providers.keys(), report) for name, document in files.items()}
    upstreams = [upstream for document in files.values() for upstream in (document or {}).get("upstreams", [])]
    names = [upstream.get("name") for upstream in upstreams]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        report.add(name, "is declared by two files")
    applicable = {name: document for name, document in documents.items() if document is not None}
    if "--expand" in arguments:
        folder = Path(arguments[arguments.index("--expand") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in applicable.items():
            text = yaml.safe_dump(document, sort_keys=False, width=1000)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    for problem in report.problems:
        print(problem)
    operations = sum(len(upstream.get("operations", [])) for upstream in upstreams)
    print(f"{len(files)} upstream files with {operations} operations, {len(applicable)} of them for today's program")
    answers = sum("token_answer_example" in (provider or {}) for provider in providers.values())
    print(f"{len(providers)} providers, {answers} of them with a token answer")
    print(f"{len(report.problems)} problems")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
