import { afterAll, describe, expect, it } from 'vitest';
import { ChatTemplate } from './chat-template.js';
import { Conversation } from './conversation.js';
import { TemplateRenderer } from './template-renderer.js';

const chatMl =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const controlTokens = [
  { text: '<|im_start|>', tokenId: 1 },
  { text: '<|im_end|>', tokenId: 2 },
];
const renderer = new TemplateRenderer();
afterAll(() => renderer.close());
const make = (source = chatMl) =>
  new ChatTemplate({ source, controlTokens, bosToken: '<s>', eosToken: '<|im_end|>' }, renderer);
const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });
const withPrompt = { addGenerationPrompt: true };
const spell = (pieces: readonly { text: string; tokenId: number | null }[]) =>
  pieces.map(({ text, tokenId }) => (tokenId === null ? text : `[${tokenId}]`)).join('');

describe('ChatTemplate', () => {
  it('renders messages and gives control tokens as ids', async () => {
    const rendered = await make().render([user('Hi <|im_end|>!')], withPrompt);
    expect(spell(rendered.split())).toBe('[1]user\nHi <|im_end|>![2]\n[1]assistant\n');
  });

  it('passes bos, eos and further fields of messages', async () => {
    const source = "{{ bos_token }}{% for m in messages %}{{ m.name ~ ': ' ~ m.content ~ eos_token }}{% endfor %}";
    const rendered = await make(source).render([{ ...user('hello'), name: 'Ann' }], withPrompt);
    expect(spell(rendered.split())).toBe('<s>Ann: hello[2]');
  });

  it('goes on with the last message where an answer would have begun, control tokens in it kept harmless', async () => {
    const messages = [user('Count.'), assistant('1, 2, <|im_end|> 3,')];
    const goesOn = { addGenerationPrompt: false, continueFinalMessage: true };
    const rendered = await make().render(messages, goesOn);
    expect(spell(rendered.split())).toBe('[1]user\nCount.[2]\n[1]assistant\n1, 2, <|im_end|> 3,');
    expect(await make().render([user('x'), assistant('')], goesOn)).toMatchObject({
      text: (await make().render([user('x')], withPrompt)).text,
    });
    for (const none of [[user('Count.')], []]) {
      await expect(make().render(none, goesOn)).rejects.toMatchObject({ code: 'CTKVR_INVALID_OPTION' });
    }
  });

  it('keeps control tokens harmless wherever they are but in the role of a message', async () => {
    const source =
      "{% for m in messages %}{{ m.role ~ ':' }}{% for c in m.tool_calls %}{{ c.arguments | tojson }}{% endfor %}{% endfor %}{{ role }}";
    const call = { name: 'look', arguments: { role: '<|im_end|>', at: ['<|im_start|>'], 'x<|im_end|>': 1 } };
    const messages = [{ ...assistant(''), tool_calls: [call] }];
    const options = { ...withPrompt, variables: { role: '<|im_end|>' } };
    expect(spell((await make(source).render(messages, options)).split())).toBe(
      'assistant:{"role": "<|im_end|>", "at": ["<|im_start|>"], "x<|im_end|>": 1}<|im_end|>',
    );
  });

  it('passes variables, control tokens in them kept harmless, but none of its own', async () => {
    const source = "{{ messages[0].content }}{% if enable_thinking is false %} at once{% endif %}{{ ' ' ~ style }}";
    const variables = { enable_thinking: false, style: 'kind<|im_end|>' };
    const rendered = await make(source).render([user('Answer')], { ...withPrompt, variables });
    expect(spell(rendered.split())).toBe('Answer at once kind<|im_end|>');
    for (const own of ['messages', 'add_generation_prompt', 'bos_token', 'eos_token']) {
      const refused = make().render([user('x')], { ...withPrompt, variables: { [own]: true } });
      await expect(refused).rejects.toMatchObject({ code: 'CTKVR_INVALID_OPTION', fields: { name: own } });
    }
  });

  it.each([
    ['a template that does not parse', '{% for %}', 'cannot be parsed'],
    ['a template that raises', "{{ raise_exception('roles must alternate') }}", 'roles must alternate'],
  ])('names the reason of %s', async (_name, source, reason) => {
    await expect(make(source).render([user('x')], withPrompt)).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      message: expect.stringContaining(reason),
    });
  });
});

describe('Conversation', () => {
  async function afterAnswer(emitted: string, stored = emitted) {
    const first = await new Conversation().planTurn([user('Hi')], { template: make(), options: withPrompt });
    first.conversation.addAnswer(emitted, stored);
    return first.conversation;
  }

  it('begins with everything, then adds only what is new behind the answer', async () => {
    const first = await new Conversation().planTurn([user('Hi')], { template: make(), options: withPrompt });
    expect(spell(first.pieces)).toBe('[1]user\nHi[2]\n[1]assistant\n');
    first.conversation.addAnswer('Hello', 'Hello');
    const second = await first.conversation.planTurn([user('Bye')], { template: make(), options: withPrompt });
    expect(second.fromStart).toBe(false);
    expect(spell(second.pieces)).toBe('[2]\n[1]user\nBye[2]\n[1]assistant\n');
    expect(second.conversation.messages).toEqual([user('Hi'), assistant('Hello'), user('Bye')]);
  });

  it('takes a repeated history for what it is', async () => {
    const turn = await (await afterAnswer('Hello ')).planTurn([user('Hi'), assistant('Hello'), user('Bye')], {
      template: make(),
      options: withPrompt,
    });
    expect(spell(turn.pieces)).toBe('[2]\n[1]user\nBye[2]\n[1]assistant\n');
  });

  it('refuses a history that differs, and says where', async () => {
    const messages = [user('Hi'), assistant('Something else'), user('Bye')];
    const conversation = await afterAnswer('Hello');
    await expect(conversation.planTurn(messages, { template: make(), options: withPrompt })).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      fields: { option: 'messages', differsAt: 1 },
    });
  });

  it('adds the rest of an answer whose end was not stored', async () => {
    const turn = await (await afterAnswer('One two ', 'One two')).planTurn([user('Bye')], {
      template: make(),
      options: withPrompt,
    });
    expect(spell(turn.pieces)).toBe(' [2]\n[1]user\nBye[2]\n[1]assistant\n');
  });

  it('renders anew where the template changes earlier messages', async () => {
    const trimming = chatMl.replace("message['content']", "message['content'] | trim");
    const first = await new Conversation().planTurn([user('Hi')], { template: make(trimming), options: withPrompt });
    first.conversation.addAnswer(' padded ', ' padded ');
    const second = await first.conversation.planTurn([user('Bye')], { template: make(trimming), options: withPrompt });
    expect(second.fromStart).toBe(true);
    expect(spell(second.pieces)).toBe('[1]user\nHi[2]\n[1]assistant\npadded[2]\n[1]user\nBye[2]\n[1]assistant\n');
  });

  it('goes its own way after a copy', async () => {
    const original = await afterAnswer('Hello');
    original.copy().addAnswer(' there', ' there');
    expect(original.history).toEqual([user('Hi'), assistant('Hello')]);
  });
});
