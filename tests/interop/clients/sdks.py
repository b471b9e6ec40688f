"""Stock SDKs of Python that are no example: each goes through the broker by base URL and token alone."""
import os

import stripe
from github import Auth, Github

BROKER, TOKEN = os.environ["BROKER"], os.environ["TOKEN"]

payments = stripe.StripeClient(TOKEN, base_addresses={"api": f"{BROKER}/exchange/stripe"})
customers = payments.v1.customers.list({"limit": 1})
print("stripe", [customer.id for customer in customers.auto_paging_iter()])
print("stripe", payments.v1.customers.create({"email": "grace@example.com"}).email)

# Lazy: else it goes on with the URL in the body of the first answer, which names the API itself.
hub = Github(base_url=f"{BROKER}/exchange/github", auth=Auth.Token(TOKEN), per_page=1, lazy=True)
issues = hub.get_repo("acme/answer").get_issues()
print("github", [issue.title for issue in issues])
