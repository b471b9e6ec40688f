// Octokit through the broker. It follows the pages by the links that the broker has rewritten.
import { Octokit } from '@octokit/rest'

const octokit = new Octokit({ baseUrl: `${process.env.BROKER}/exchange/github`, auth: process.env.TOKEN })
const repo = { owner: 'acme', repo: 'answer' }
const issues = await octokit.paginate(octokit.rest.issues.listForRepo, { ...repo, per_page: 1 })
console.log(issues.map((issue) => issue.title).join(', '))
const { data } = await octokit.rest.issues.create({ ...repo, title: 'written by an agent' })
console.log(data.number, data.title)
