import { type ComponentChild, h } from 'preact';
import type { MarkdownElement, MarkdownNode } from '../markdown/parse-markdown.js';
import type { TokenRun } from '../markdown/token-runs.js';

/**
 * A tree of Markdown as elements, each run of one token in a span of its own. Spaces before a token's letters are left outside, so that
 * a token looks like a word.
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
    return (runs[text++] ?? []).map(({ token, text }) => {
      const letters = text.trimStart();
      return [text.slice(0, text.length - letters.length), letters && <span data-token={token}>{letters}</span>];
    });
  };
  return <>{nodes.map(render)}</>;
}

function attributesOf({ tag, href, start }: MarkdownElement): Record<string, string | number> {
  if (href !== undefined) return { href, target: '_blank', rel: 'noopener noreferrer' };
  if (start !== undefined) return { start };
  return tag === 'pre' ? { tabIndex: 0 } : {}; // wide code scrolls
}
