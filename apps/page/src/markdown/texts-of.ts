import type { MarkdownNode } from './parse-markdown.js';

/** The texts of a tree, in order. */
export function textsOf(nodes: readonly MarkdownNode[]): string[] {
  return nodes.flatMap((node) => ('text' in node ? [node.text] : textsOf(node.children)));
}
