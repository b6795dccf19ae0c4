import { useEffect, useMemo, useRef } from 'preact/hooks';
import { parseMarkdown } from '../markdown/parse-markdown.js';
import { textsOf } from '../markdown/texts-of.js';
import { tokenRuns } from '../markdown/token-runs.js';
import type { Answer } from '../state/conversation.js';
import { shownToken, shownTurn } from '../state/spotlight.js';
import { MarkdownView } from './markdown-view.js';

/** The answer's Markdown, in which the token under the pointer, or the one that the arrow keys have reached, can be asked what it read. */
export function AnswerText({ turn, answer }: { turn: number; answer: Answer }) {
  const element = useRef<HTMLDivElement>(null);
  const hasReadMaps = answer.readMaps.some((map) => map.length > 0);
  const text = useMemo(() => {
    const nodes = parseMarkdown(answer.tokens.join(''));
    return <MarkdownView nodes={nodes} runs={tokenRuns(answer.tokens, textsOf(nodes))} />;
  }, [answer]);
  const shown = hasReadMaps && shownTurn.value === turn ? shownToken.value : null;
  // The spans are marked where they are: to render a long answer anew for each movement of the pointer would be slow.
  useEffect(() => {
    const marked = shown === null ? [] : [...element.current!.querySelectorAll(`[data-token="${shown}"]`)];
    for (const span of marked) span.classList.add('shown');
    return () => {
      for (const span of marked) span.classList.remove('shown');
    };
  }, [shown]);

  if (!hasReadMaps) return <div class="answer-text">{text}</div>;
  const show = (token: number | null) => {
    shownTurn.value = turn;
    shownToken.value = token;
  };
  return (
    // biome-ignore lint/a11y/useSemanticElements: the answer is no set of form fields.
    <div
      ref={element}
      class="answer-text with-tokens"
      role="group"
      aria-label="Answer. The arrow keys show what was read for each token."
      // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys do for the keyboard what the pointer does.
      tabIndex={0}
      onPointerOver={(event) => {
        const span = (event.target as Element).closest<HTMLElement>('[data-token]');
        if (span !== null) show(Number(span.dataset.token));
      }}
      onPointerLeave={() => show(null)}
      onBlur={() => show(null)}
      onKeyDown={(event) => {
        const next = nextToken(event.key, shown, answer.tokens.length);
        if (next === undefined) return;
        event.preventDefault();
        show(next);
      }}
    >
      {text}
    </div>
  );
}

/** Returns the token that a key leads to; null = none, undefined = the key leads nowhere. */
function nextToken(key: string, shown: number | null, numTokens: number): number | null | undefined {
  if (key === 'ArrowRight') return Math.min((shown ?? -1) + 1, numTokens - 1);
  if (key === 'ArrowLeft') return Math.max((shown ?? numTokens) - 1, 0);
  if (key === 'Home') return 0;
  if (key === 'End') return numTokens - 1;
  if (key === 'Escape') return null;
  return undefined;
}
