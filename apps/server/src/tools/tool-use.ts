/** The tools of a request, whatever the protocol. Plain data. */
import type { JsonSchema } from '@ctkvr/model-runner';

export interface Tool {
  readonly name: string;
  readonly description: string | null;
  /** Of an object: the arguments. */
  readonly parameters: JsonSchema;
}

export interface ToolUse {
  /** One at least, no name twice. */
  readonly tools: readonly Tool[];
  /** Whether the answer may be calls, has to be calls, or has to be calls of the one tool named. */
  readonly choice: 'auto' | 'required' | { readonly name: string };
  /** Whether an answer may have more than one call. */
  readonly parallel: boolean;
  /** The request's field that names the tools, for errors. */
  readonly field: string;
}

/** One call in an answer. */
export interface AnswerCall {
  readonly id: string;
  readonly name: string;
  /** JSON of an object. */
  readonly arguments: string;
}

/** The tools that a call may be of. */
export function callableTools({ tools, choice }: ToolUse): readonly Tool[] {
  return typeof choice === 'string' ? tools : tools.filter(({ name }) => name === choice.name);
}

/** As Hugging Face's templates take a tool, and models have seen it. */
export function toTemplateTool({ name, description, parameters }: Tool) {
  return { type: 'function', function: { name, ...(description === null ? {} : { description }), parameters } };
}
