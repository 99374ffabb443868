// A phone driven by SIP.js. Unlike JsSIP, SIP.js does not reconnect by itself.

import {
  Inviter, Messager, Registerer, SessionState, SIPExtension, Subscriber, UserAgent, Web,
} from "sip.js";
import { ACCEPT } from "./ledger.js";
import { openMicrophone } from "./sound.js";
import { isConnected, note } from "./trace.js";
import { changed, pause, until } from "./watch.js";

const RECONNECT_MILLISECONDS = 2000;

export class SipJsPhone {
  constructor(account, ledger) {
    this.account = account;
    this.ledger = ledger;
    this.wantsRegistration = false;
    this.ua = new UserAgent({ ...configuration(account), delegate: {
      onConnect: () => this.onConnect(),
      onDisconnect: (error) => this.reconnect(error),
      onInvite: (invitation) => this.adopt(invitation, "incoming", invitation.remoteIdentity.uri.user),
      onMessage: (message) => message.accept(),
      onNotify: (notification) => notification.accept(),
    } });
    this.registerer = new Registerer(this.ua, {
      expires: account.expires,
      extraHeaders: account.headers,
      instanceId: account.instance ?? "", // without an instance id SIP.js requests no GRUU
    });
  }

  start() {
    this.ua.start().catch((error) => this.reconnect(error));
  }

  onConnect() {
    changed();
    if (this.wantsRegistration) this.register();
  }

  async reconnect(error) {
    if (!error) return;
    this.ledger.setRegistered(false, null);
    while (!this.ua.isConnected()) {
      await pause(RECONNECT_MILLISECONDS);
      await this.ua.reconnect().catch((problem) => note(`not reconnected: ${problem.message}`));
    }
  }

  async register() {
    this.wantsRegistration = true;
    await this.registerer.register({ requestDelegate: {
      onAccept: ({ message }) => this.ledger.setRegistered(true, message.statusCode),
      onReject: ({ message }) => this.ledger.setRegistered(false, message.statusCode),
    } }).catch((problem) => note(`REGISTER not sent: ${problem.message}`));
  }

  async unregister(all) {
    this.wantsRegistration = false;
    const done = ({ message }) => this.ledger.setRegistered(false, message.statusCode);
    await this.registerer.unregister({ all, requestDelegate: { onAccept: done, onReject: done } });
  }

  uri(target) {
    const uri = UserAgent.makeURI(target.includes(":") ? target : `sip:${target}@${this.account.domain}`);
    if (!uri) throw new TypeError(`not a SIP URI: ${target}`);
    return uri;
  }

  adopt(session, direction, peer) {
    const call = this.ledger.newCall(direction, peer, session);
    call.callId = session.request.callId;
    session.delegate = {
      onSessionDescriptionHandler: (handler) => call.watch(handler.peerConnection),
      onBye: (bye) => { call.cause = "remote: Terminated"; bye.accept(); },
      onRefer: (referral) => this.follow(referral),
      onNotify: (notification) => notification.accept(),
    };
    session.stateChange.addListener((state) => {
      if (state === SessionState.Established) call.move("answered");
      if (state === SessionState.Terminated) {
        call.move(call.state === "answered" ? "ended" : "failed", call.cause);
      }
    });
    return call;
  }

  async follow(referral) {
    await referral.accept();
    const inviter = referral.makeInviter();
    await this.place(inviter, referral.referTo.uri.user);
  }

  async place(inviter, peer) {
    const call = this.adopt(inviter, "outgoing", peer);
    await inviter.invite({ requestDelegate: {
      onProgress: ({ message }) => message.statusCode > 100 && call.move("ringing"),
      onReject: ({ message }) => { call.cause = `remote: ${message.reasonPhrase}`; },
    } });
    return call;
  }

  call(target) {
    const inviter = new Inviter(this.ua, this.uri(target), { extraHeaders: this.account.headers });
    return this.place(inviter, this.uri(target).user);
  }

  answer(call) {
    return call.session.accept();
  }

  reject(call, status) {
    return call.session.reject({ statusCode: status });
  }

  hangUp(call) {
    const { session } = call;
    call.cause = "local: Terminated";
    if (session.state === SessionState.Established) return session.bye();
    return call.direction === "incoming" ? session.reject() : session.cancel();
  }

  async hold(call, on, milliseconds) {
    let done = null;
    call.session.sessionDescriptionHandlerOptionsReInvite = { hold: on };
    await call.session.invite({ requestDelegate: {
      onAccept: () => { done = true; note(`call ${call.id} renegotiated`); },
      onReject: () => { done = false; note(`call ${call.id} re-INVITE refused`); },
    } });
    await until(() => done !== null || call.isOver, milliseconds);
    // as SIP.js's SessionManager does, because `sendonly` stops only the audio of the other side
    if (done) call.connection.getSenders().forEach(({ track }) => { track.enabled = !on; });
    return done === true;
  }

  update() {
    throw new Error("SIP.js sends no UPDATE");
  }

  refer(call, target) {
    return finalStatus((requestDelegate) => call.session.refer(this.uri(target), { requestDelegate }));
  }

  /** Attended transfer: Refer-To is the remote target of the other call, with Replaces. */
  transfer(call, other) {
    return finalStatus((requestDelegate) => call.session.refer(other.session, { requestDelegate }));
  }

  dtmf(call, digits) {
    call.session.sessionDescriptionHandler.sendDtmf(digits);
  }

  message(target, body) {
    const options = { extraHeaders: this.account.headers };
    const messager = new Messager(this.ua, this.uri(target), body, "text/plain", options);
    return finalStatus((requestDelegate) => messager.message({ requestDelegate }));
  }

  options(target) {
    const core = this.ua.userAgentCore;
    const [uri, from] = [this.uri(target), core.configuration.aor];
    const headers = this.account.headers;
    const request = core.makeOutgoingRequestMessage("OPTIONS", uri, from, uri, {}, headers);
    return finalStatus((delegate) => core.request(request, delegate));
  }

  subscribe(target, event, expires) {
    const extraHeaders = [...this.account.headers, `Accept: ${ACCEPT[event]}`];
    const subscriber = new Subscriber(this.ua, this.uri(target), event, { expires, extraHeaders });
    subscriber.delegate = { onNotify: (notification) => { notification.accept(); note(`notified of ${event}`); } };
    subscriber.stateChange.addListener((state) => note(`subscription ${event} ${state}`));
    subscriber.subscribe();
    return { end: () => subscriber.unsubscribe() };
  }

  get connected() {
    return isConnected() && this.ua.isConnected();
  }
}

function finalStatus(send) {
  return new Promise((resolve) => {
    const done = ({ message }) => resolve(message.statusCode);
    send({ onAccept: done, onReject: done });
  });
}

function configuration(account) {
  const all = {
    uri: UserAgent.makeURI(`sip:${account.from_user ?? account.number}@${account.domain}`),
    authorizationUsername: account.authorization_user ?? account.number,
    authorizationPassword: account.password,
    instanceId: account.instance,
    contactName: account.contact,
    userAgentString: account.user_agent,
    noAnswerTimeout: 180,
    sipExtensionReplaces: SIPExtension.Supported, // the target of an attended transfer
    logBuiltinEnabled: false,
    logConfiguration: false,
    logConnector: (level, category, _label, content) =>
      (level === "warn" || level === "error") && note(`${level} ${category}: ${content}`),
    transportOptions: { server: account.wss, traceSip: false },
    sessionDescriptionHandlerFactory: Web.defaultSessionDescriptionHandlerFactory(openMicrophone),
    sessionDescriptionHandlerFactoryOptions: {
      iceGatheringTimeout: 1000,
      peerConnectionConfiguration: { iceServers: account.ice }, // the default asks a public STUN server
    },
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value != null));
}
