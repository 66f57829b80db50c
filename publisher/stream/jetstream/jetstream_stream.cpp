/* See jetstream_stream.h. */
#include "publisher/stream/jetstream/jetstream_stream.h"

#include <chrono>
#include <cstring>

namespace siphon {

/* Its threads are busy with nothing that takes longer. */
static constexpr std::chrono::seconds kEndPatience{5};

/* Behind the inbox, the first letter says whose answer it is. */
static constexpr char kOfLog = 'l';
static constexpr char kOfSpill = 's';
static constexpr char kOfRequest = 'r';

static std::string
inbox_of(const std::string &inbox, char whose)
{
	return inbox + whose + ".";
}

JetStream::JetStream(const std::string &url, const NatsLogin &login, const std::string &client_name, bool welcome,
					 const std::string &api_prefix, const StreamPlan &plan, Wakeup *wakeup,
					 const std::atomic<int> *stop_requests)
	: wakeup_(wakeup), connection_(url, login, client_name, welcome, wakeup, stop_requests),
	  inbox_(connection_.new_inbox() + "."), requests_(&connection_, api_prefix, inbox_of(inbox_, kOfRequest)),
	  log_(plan, &connection_, &requests_, wakeup, inbox_of(inbox_, kOfLog), nullptr),
	  spill_(held_plan(plan), &connection_, &requests_, wakeup, inbox_of(inbox_, kOfSpill), &log_),
	  states_(plan.name, &connection_, &requests_, wakeup, &log_)
{
	natsSubscription *subscription = nullptr;

	nats_check(natsConnection_Subscribe(&subscription, connection_.get(), (inbox_ + ">").c_str(), on_answer, this),
			   "subscription to the inbox");
	subscription_.reset(subscription);
	nats_check(natsSubscription_SetOnCompleteCB(subscription, on_answers_end, this), "end of the inbox");
	nats_check(natsSubscription_SetPendingLimits(subscription, -1, -1), "limits of the inbox");
}

/* To destroy a subscription does not wait for the thread that calls on_answer(). */
JetStream::~JetStream()
{
	bool subscribed = subscription_ != nullptr;

	subscription_.reset();

	std::unique_lock<std::mutex> guard(mutex_);

	if (subscribed)
		answers_end_.wait_for(guard, kEndPatience, [this] { return answers_ended_; });
}

void
JetStream::on_answers_end(void *self)
{
	JetStream *stream = static_cast<JetStream *>(self);
	std::lock_guard<std::mutex> guard(stream->mutex_);

	stream->answers_ended_ = true;
	/* Under the lock, as the waiter is about to destroy it. */
	stream->answers_end_.notify_one();
}

/* What comes here may come from anybody, and nothing may be thrown through the library's thread. */
void
JetStream::on_answer(natsConnection *, natsSubscription *, natsMsg *raw, void *self)
{
	JetStream *stream = static_cast<JetStream *>(self);
	NatsPtr<natsMsg> message(raw);
	const char *subject = natsMsg_GetSubject(raw);

	if (strlen(subject) < stream->inbox_.size() + 3 || subject[stream->inbox_.size() + 1] != '.')
		return;

	const char *token = subject + stream->inbox_.size() + 2;

	try
	{
		switch (subject[stream->inbox_.size()])
		{
			case kOfLog:
				stream->log_.enter(token, raw);
				break;
			case kOfSpill:
				stream->spill_.enter(token, raw);
				break;
			case kOfRequest:
				stream->requests_.enter(token, raw);
				break;
			default:
				return;
		}
	}
	catch (...)
	{
		/* It has no answer then, and its deadline comes. */
	}
	stream->wakeup_->notify();
}

} // namespace siphon
