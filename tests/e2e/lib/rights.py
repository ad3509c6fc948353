#!/usr/bin/env python3
"""rights.py RULES.json AUDIT.log ACCOUNTS [HEIRS]: compares what service accounts may do with what they did.

RULES.json lists all (cluster) roles and bindings, AUDIT.log is that of the API server, ACCOUNTS is a regular expression for
NAMESPACE:NAME; all accounts that match are taken together. HEIRS are accounts to which ACCOUNTS grant rights: one can only grant
rights that one holds. Prints one line for each right. Exit code 1 when a call was refused since the rules exist, when a right was
neither used nor granted, or when the log has no call at all. An apply that creates an object needs the right to create it and is
logged as a patch.
"""

import json
import re
import sys


def granted(rules_file, accounts):
    """(group, resource, verb) -> resource names, or None where any name will do; and since when."""
    with open(rules_file) as file:
        items = json.load(file)["items"]
    roles = {(i["kind"], i["metadata"].get("namespace", ""), i["metadata"]["name"]): i for i in items if i["kind"].endswith("Role")}
    rights, since = {}, ""
    for binding in items:
        if not binding["kind"].endswith("Binding"):
            continue
        own = binding["metadata"].get("namespace", "")
        subjects = [f"{s.get('namespace', own)}:{s['name']}" for s in binding.get("subjects") or [] if s["kind"] == "ServiceAccount"]
        if not any(accounts.search(s) for s in subjects):
            continue
        ref = binding["roleRef"]
        since = max(since, binding["metadata"]["creationTimestamp"])
        role = roles[(ref["kind"], own if ref["kind"] == "Role" else "", ref["name"])]
        for rule in role.get("rules") or []:
            for group in rule.get("apiGroups", []):
                for resource in rule.get("resources", []):
                    for verb in rule["verbs"]:
                        names = set(rule.get("resourceNames", []))
                        rights.setdefault((group, resource, verb), set()).update(names or {None})
    return rights, since


def seen(audit_file, accounts, since):
    """(group, resource, verb) -> [calls, refused]"""
    calls = {}
    with open(audit_file) as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # the last line may be half written
            user = event["user"]["username"].removeprefix("system:serviceaccount:")
            target = event.get("objectRef") or {}
            if "resource" not in target or not accounts.search(user) or event["stage"] == "ResponseStarted":
                continue
            resource = "/".join(filter(None, [target["resource"], target.get("subresource")]))
            count = calls.setdefault((target.get("apiGroup", ""), resource, event["verb"]), [0, 0])
            count[0] += 1
            forbidden = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
            count[1] += forbidden and event["requestReceivedTimestamp"] > since
    return calls


def main():
    rules_file, audit_file, accounts = sys.argv[1], sys.argv[2], re.compile(sys.argv[3])
    rights, since = granted(rules_file, accounts)
    calls = seen(audit_file, accounts, since)
    given = granted(rules_file, re.compile(sys.argv[4]))[0] if len(sys.argv) > 4 else {}
    wrong = not calls
    for right in sorted(rights.keys() | calls.keys()):
        group, resource, verb = right
        count, refused = calls.get(right, [0, 0])
        word = "ok"
        if refused:
            word = f"REFUSED {refused}"
        elif not count:
            applied = verb == "create" and (group, resource, "patch") in calls
            word = "given on" if right in given else "by apply" if applied else "UNUSED"
        elif right not in rights:
            word = "by another rule"  # such as what every account may do
        wrong |= word.isupper() or bool(refused)
        print(f"{word:<16} {verb:<8} {resource}{'.' + group if group else ''}  {count} calls")
    if not calls:
        print("no call was seen")
    sys.exit(wrong)


main()
