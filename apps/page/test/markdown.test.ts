import { describe, expect, test } from 'vitest';
import { type MarkdownNode, parseMarkdown } from '../src/markdown/parse-markdown.js';
import { textsOf } from '../src/markdown/texts-of.js';
import { tokenRuns } from '../src/markdown/token-runs.js';

/** The tree in short: tags in brackets. */
const short = (nodes: MarkdownNode[]): string =>
  nodes.map((node) => ('text' in node ? node.text : `<${node.tag}>${short(node.children)}</${node.tag}>`)).join('');

describe('Markdown', () => {
  test('becomes a tree of elements', () => {
    expect(short(parseMarkdown('# A\n\n- b **c**\n- `d`\n\n```js\ne()\n```'))).toBe(
      '<h3>A</h3><ul><li>b <strong>c</strong></li><li><code>d</code></li></ul><pre><code>e()\n</code></pre>',
    );
  });

  test('keeps HTML as text', () => {
    const html = '<script>alert(1)</script>\n\n<img src=x onerror=alert(1)> <b>c</b>';
    expect(textsOf(parseMarkdown(html)).join('')).toBe(
      '<script>alert(1)</script><img src=x onerror=alert(1)> <b>c</b>',
    );
  });

  test('has no addresses but those of links, and none that run code', () => {
    const attributes = (nodes: MarkdownNode[]): string[] =>
      nodes.flatMap((node) => ('text' in node ? [] : [node.href ?? '', ...attributes(node.children)])).filter(Boolean);
    const source =
      '[a](https://example.org) [b](javascript:alert(1)) ![c](https://example.org/c.png) [d](data:text/html,x)';
    expect(attributes(parseMarkdown(source))).toEqual(['https://example.org', 'https://example.org/c.png']);
    expect(JSON.stringify(parseMarkdown('|a|\n|:-:|\n|b|'))).not.toContain('style');
  });

  test('counts on from the first number of a list', () => {
    expect(parseMarkdown('3. c\n4. d')).toMatchObject([{ tag: 'ol', start: 3 }]);
  });
});

describe('runs of tokens', () => {
  /** Which token each letter that is shown came with: [letters, token]. */
  const runs = (tokens: string[]) =>
    tokenRuns(tokens, textsOf(parseMarkdown(tokens.join(''))))
      .flat()
      .map(({ token, text }) => [text, token]);

  test('lead from what is shown to the tokens', () => {
    expect(runs(['The', ' **', 'lamp', '** fai', 'led.'])).toEqual([
      ['The', 0],
      [' ', 1],
      ['lamp', 2],
      [' fai', 3],
      ['led.', 4],
    ]);
  });

  test('pass over link targets, however often the same letters are in them', () => {
    expect(runs(['see [a', 't](https://e.org/at', '/at) at', ' once'])).toEqual([
      ['see ', 0],
      ['a', 0],
      ['t', 1],
      [' at', 2],
      [' once', 3],
    ]);
  });

  test('stay with the last token where a letter is not in the source', () => {
    expect(runs(['a &copy;', ' b'])).toEqual([
      ['a ©', 0],
      [' b', 1],
    ]);
  });

  test('joined, are what is shown', () => {
    const source = '# T\n\n1. a *b* `c`\n2. d\n\n> e\n\n```\nf\n  g\n```\n\n|h|i|\n|-|-|\n|j|k|\n';
    for (let size = 1; size < 9; size++) {
      const tokens = source.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
      const texts = textsOf(parseMarkdown(source));
      const joined = tokenRuns(tokens, texts).map((parts) => parts.map(({ text }) => text).join(''));
      expect(joined).toEqual(texts);
    }
  });
});
