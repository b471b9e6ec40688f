"""An agent in Python: a token by its secret, and calls through the broker. `pip install authlib requests`."""

import os

from authlib.integrations.requests_client import OAuth2Session

broker = os.environ.get("BROKER", "http://127.0.0.1:8600")

# Authlib asks for a token at the first call, and for the next one when it has run out.
agent = OAuth2Session(
    os.environ["CLIENT_ID"],
    os.environ["CLIENT_SECRET"],
    token_endpoint=f"{broker}/oauth2/token",
    grant_type="client_credentials",
)
agent.fetch_token(task="read the contacts")  # `task` goes into the audit log

# The CRM's own base URL is the only thing that would differ without Hallpass: no key of the CRM is here.
answer = agent.get(f"{broker}/exchange/crm/v1/contacts")
print(answer.status_code, answer.text)

# What the agent's roles do not give is refused, and the answer says what is missing.
answer = agent.post(f"{broker}/exchange/crm/v1/contacts", data={"name": "Ada"})
print(answer.status_code, answer.json()["detail"])
