/** Markdown as a tree of allowed elements. Nothing of it is ever HTML text, so an answer can bring in neither scripts nor styles. */
import MarkdownIt, { type Token } from 'markdown-it';

export type MarkdownNode = MarkdownElement | MarkdownText;

export interface MarkdownElement {
  readonly tag: string;
  /** Of links only. */
  readonly href?: string;
  /** Of ordered lists only: the first number. */
  readonly start?: number;
  readonly children: MarkdownNode[];
}

export interface MarkdownText {
  readonly text: string;
}

// Images would be requests to elsewhere; without the rule they are links.
const parser = new MarkdownIt({ html: false, breaks: true }).disable('image');

export function parseMarkdown(source: string): MarkdownNode[] {
  const root: MarkdownNode[] = [];
  addTokens(parser.parse(source, {}), root);
  return root;
}

function addTokens(tokens: readonly Token[], root: MarkdownNode[]): void {
  const open = [root];
  for (const token of tokens) {
    const children = open.at(-1)!;
    if (token.nesting < 0) open.pop();
    else if (token.nesting > 0) {
      // Paragraphs of a tight list have no element of their own.
      const element = toElement(token);
      if (!token.hidden) children.push(element);
      open.push(token.hidden ? children : element.children);
    } else addLeaf(token, children);
  }
}

function addLeaf(token: Token, children: MarkdownNode[]): void {
  if (token.type === 'inline') addTokens(token.children ?? [], children);
  else if (token.type === 'softbreak' || token.type === 'hardbreak') children.push({ tag: 'br', children: [] });
  else if (token.type === 'hr') children.push({ tag: 'hr', children: [] });
  else if (token.type === 'code_inline') children.push({ tag: 'code', children: [{ text: token.content }] });
  else if (token.type === 'fence' || token.type === 'code_block') {
    children.push({ tag: 'pre', children: [{ tag: 'code', children: [{ text: token.content }] }] });
  } else if (token.content !== '') children.push({ text: token.content });
}

/** Headings of an answer stand below those of the page, which has two levels. */
function toElement(token: Token): MarkdownElement {
  const heading = /^h(\d)$/.exec(token.tag);
  const tag = heading === null ? token.tag : `h${Math.min(6, Number(heading[1]) + 2)}`;
  const href = tag === 'a' ? token.attrGet('href') : null;
  const start = tag === 'ol' ? token.attrGet('start') : null;
  return {
    tag,
    ...(href === null ? {} : { href: String(href) }),
    ...(start === null ? {} : { start: Number(start) }),
    children: [],
  };
}
