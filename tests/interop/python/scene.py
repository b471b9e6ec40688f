"""What the test has prepared: a broker, an agent, and the upstream `crm` behind it."""

import os

ISSUER = os.environ["BROKER"]
ID = os.environ["CLIENT_ID"]
SECRET = os.environ["CLIENT_SECRET"]
CONTACTS = f"{ISSUER}/exchange/crm/v1/contacts"


def reached(answer):
    assert answer.status_code == 200, answer.text
    assert answer.json()["uri"] == "/v1/contacts", answer.text
