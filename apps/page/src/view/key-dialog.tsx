import { setApiKey } from '../server/request.js';
import { load } from '../state/load.js';
import { keyIsAsked } from '../state/notice.js';
import { TextDialog } from './text-dialog.js';

/** Asks for the API key, if the server wants one. */
export function KeyDialog() {
  if (!keyIsAsked.value) return null;
  return (
    <TextDialog
      title="This server needs an API key"
      label="API key, kept until this tab is closed"
      value=""
      isSecret
      action="Use this key"
      onDone={(key) => {
        keyIsAsked.value = false;
        if (key === null) return;
        setApiKey(key);
        load();
      }}
    />
  );
}
