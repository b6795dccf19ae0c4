/** What an answer is bound to, as a grammar: calls of tools that have to come, JSON that was asked for, thoughts that may come before. */
import { type GrammarSource, jsonInLark } from '@ctkvr/model-runner';
import type { AnswerJson } from '../generation-request.js';
import { THINK_CLOSER, THINK_OPENER } from './answer-parser.js';
import type { CallFormat } from './call-format.js';
import { callableTools, type Tool, type ToolUse } from './tool-use.js';

export interface AnswerBounds {
  /** Where the text has to be JSON; null = any text. */
  readonly json: AnswerJson | null;
  readonly toolUse: ToolUse | null;
  readonly format: CallFormat;
  readonly thinking: 'none' | 'possible' | 'begun';
  /** Of a text that is one control token. */
  readonly tokenIdOf: (text: string) => number | null;
}

/** Returns the grammar of an answer; null where it may be anything. */
export function answerGrammar({ json, toolUse, format, thinking, tokenIdOf }: AnswerBounds): GrammarSource | null {
  const mustCall = toolUse !== null && toolUse.choice !== 'auto';
  if (json === null && !mustCall) return null;
  const tag = (text: string) => {
    const tokenId = tokenIdOf(text);
    return tokenId === null ? JSON.stringify(text) : `<[${tokenId}]>`;
  };
  const forms = [...(json !== null && !mustCall ? ['json'] : []), ...(toolUse === null ? [] : ['calls'])];
  const rules = [`body: ${forms.join(' | ')}`];
  if (forms.includes('json')) rules.push(`json: ${jsonInLark(json!.schema)}`);
  if (toolUse !== null) rules.push(...callRules(toolUse, format, tag));
  rules.unshift(`start: ${{ none: '', possible: 'thoughts? ', begun: 'ended ' }[thinking]}body`);
  if (thinking !== 'none') {
    rules.push(`thoughts: ${tag(THINK_OPENER)} ended`, 'ended: thought /\\s{0,4}/');
    // A tag that is text is a part of the text before it, which ends as soon as it can; a control token is none.
    const isText = tokenIdOf(THINK_CLOSER) === null;
    rules.push(isText ? 'thought[lazy]: /(.|\\n)*<\\/think>/' : `thought: /(.|\\n)*/ ${tag(THINK_CLOSER)}`);
  }
  return { type: 'lark', grammar: rules.join('\n') };
}

function callRules(toolUse: ToolUse, format: CallFormat, tag: (text: string) => string): string[] {
  const tools = callableTools(toolUse);
  const names = tools.map((_, index) => `call_${index}`).join(' | ');
  return [
    ...frame(format, toolUse.parallel, tag),
    `call: ${names}`,
    ...tools.flatMap((tool, index) => callRule(tool, index, format)),
  ];
}

/** Where calls stand in an answer. */
function frame(format: CallFormat, parallel: boolean, tag: (text: string) => string): string[] {
  const { opener, closer, isList } = format;
  if (isList) return [`calls: ${tag(opener)} "[" call${parallel ? ' (", " call)*' : ''} "]"`];
  if (closer === null) return [`calls: call${parallel ? ' ("; " call)*' : ''}`];
  const one = `${tag(opener)} "\\n" call "\\n" ${tag(closer)}`;
  return [`calls: one${parallel ? ' ("\\n" one)*' : ''}`, `one: ${one}`];
}

function callRule({ name, parameters }: Tool, index: number, { argumentsName }: CallFormat): string[] {
  const head = JSON.stringify(`{"name": ${JSON.stringify(name)}, ${JSON.stringify(argumentsName)}: `);
  return [`call_${index}: ${head} arguments_${index} "}"`, `arguments_${index}: ${jsonInLark(parameters)}`];
}
