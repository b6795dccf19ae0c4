/** How one answer is to be generated and read: what it is bound to, and what is taken out of its text. */
import { randomBytes } from 'node:crypto';
import type { GrammarSource } from '@ctkvr/model-runner';
import type { GenerationRequest } from '../generation-request.js';
import { type AnswerBounds, answerGrammar } from './answer-grammar.js';
import { AnswerParser, THINK_CLOSER, THINK_OPENER } from './answer-parser.js';
import { callFormatOf } from './call-format.js';
import { callableTools } from './tool-use.js';

export interface AnswerPlan {
  readonly grammar: { readonly source: GrammarSource; readonly field: string } | null;
  /** Returns what reads one answer; null = the whole answer is text. */
  readonly newParser: (() => AnswerParser) | null;
  /** Texts of control tokens that the parser has to see; of others nothing is in an answer. */
  readonly tags: ReadonlyMap<number, string>;
}

export interface PlanInput {
  readonly request: GenerationRequest;
  /** Jinja source; '' when the model has none. */
  readonly template: string;
  /** The end of the prompt, control tokens as text. */
  readonly promptEnd: string;
  readonly controlTokens: readonly { readonly text: string; readonly tokenId: number }[];
}

export function planAnswer({ request, template, promptEnd, controlTokens }: PlanInput): AnswerPlan {
  const { prompt, json } = request;
  const toolUse = prompt.type === 'messages' ? prompt.toolUse : null;
  const thinking = thinkingOf(request, template, promptEnd.trimEnd());
  const { format } = callFormatOf(template);
  const tokenIdOf = (text: string) => controlTokens.find((token) => token.text === text)?.tokenId ?? null;
  const source = answerGrammar({ json, toolUse, format, thinking, tokenIdOf });
  const tagTexts = [
    ...(thinking === 'none' ? [] : [THINK_OPENER, THINK_CLOSER]),
    ...(toolUse === null ? [] : [format.opener, format.closer ?? '']),
  ];
  const names = new Set(toolUse === null ? [] : callableTools(toolUse).map(({ name }) => name));
  const calls = toolUse === null ? null : { format, names, parallel: toolUse.parallel, newId: newCallId };
  return {
    grammar: source === null ? null : { source, field: json?.field ?? toolUse?.field ?? '' },
    newParser: calls === null && thinking === 'none' ? null : () => new AnswerParser({ calls, thinking }),
    tags: new Map(
      controlTokens.filter(({ text }) => tagTexts.includes(text)).map(({ text, tokenId }) => [tokenId, text]),
    ),
  };
}

/** Templates that can think write the opening tag themselves, or leave it to the model, or close it at once where thinking is off. */
function thinkingOf({ prompt }: GenerationRequest, template: string, promptEnd: string): AnswerBounds['thinking'] {
  if (prompt.type !== 'messages' || prompt.ending !== 'answer' || !template.includes(THINK_CLOSER)) return 'none';
  if (promptEnd.endsWith(THINK_OPENER)) return 'begun';
  return promptEnd.endsWith(THINK_CLOSER) ? 'none' : 'possible';
}

/** Nine letters and digits: Mistral's templates take no other, and every client takes these. */
function newCallId(): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz234567';
  return Array.from(randomBytes(9), (byte) => letters[byte % letters.length]).join('');
}
