/** The prompt of messages that a new answer follows, with nothing asked of the template. */
export function newAnswerTo(messages: readonly object[]) {
  return { type: 'messages', messages, ending: 'answer', variables: {}, effort: null, toolUse: null };
}
