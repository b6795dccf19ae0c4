import { type ComponentChild, h } from 'preact';
import type { MarkdownElement, MarkdownNode } from '../markdown/parse-markdown.js';
import type { TokenRun } from '../markdown/token-runs.js';

/**
 * A tree of Markdown as elements, each run of one token in a span of its own.
 * @param runs of the tree's texts, in order
 */
export function MarkdownView({
  nodes,
  runs,
}: {
  nodes: readonly MarkdownNode[];
  runs: readonly (readonly TokenRun[])[];
}) {
  let text = 0;
  const render = (node: MarkdownNode): ComponentChild => {
    if (!('text' in node)) return h(node.tag, attributesOf(node), ...node.children.map(render));
    return (runs[text++] ?? []).map((run) => <span data-token={run.token}>{run.text}</span>);
  };
  return <>{nodes.map(render)}</>;
}

function attributesOf({ tag, href, start }: MarkdownElement): Record<string, string | number> {
  if (href !== undefined) return { href, target: '_blank', rel: 'noopener noreferrer' };
  if (start !== undefined) return { start };
  return tag === 'pre' ? { tabIndex: 0 } : {}; // wide code scrolls
}
