"""python-gitlab through the broker."""
import os

import gitlab

client = gitlab.Gitlab(f"{os.environ['BROKER']}/exchange/gitlab", private_token=os.environ["TOKEN"])
project = client.projects.get("acme/answer")
print(project.path_with_namespace)
print(", ".join(issue.title for issue in project.issues.list(per_page=1, iterator=True)))
