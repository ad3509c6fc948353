//! Identity of topics: the id that Kafka gives a topic when it is created (KIP-516). A recreated topic has another
//! id. Also which partitions of a topic can be read now.
//!
//! The only module with `unsafe` code: librdkafka offers this only through `rd_kafka_DescribeTopics`, for which the
//! `rdkafka` crate has no safe wrapper. Every object that this module makes is freed, no pointer outlives the object
//! it points into, and a call ends within its timeout.
#![allow(unsafe_code, reason = "topic ids have no safe interface; see the module's documentation")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

/// The description of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Id in base64, as librdkafka writes it; `None` from brokers before 2.8, which have no ids.
    pub id: Option<String>,
    /// Number of partitions.
    pub partitions: i32,
    /// Numbers of the partitions that have no leader now.
    pub leaderless: Vec<i32>,
    /// Whether this user may read the topic (KIP-430); true for brokers before 2.3, which do not report it.
    pub readable: bool,
}

/// Topics could not be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// A name contains a zero byte.
    #[error("failed to describe topics: a name holds a zero byte")]
    Name,
    /// No broker answered in time.
    #[error("failed to describe topics: no answer within {0:?}")]
    Timeout(Duration),
    /// The broker refused the request.
    #[error("failed to describe topics: {0}")]
    Refused(String),
}

/// An object of librdkafka that is freed when it goes out of scope.
struct Owned<T> {
    object: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.object.is_null() {
            // SAFETY: `object` came from the constructor that belongs to `free`, and nobody else frees it.
            unsafe { (self.free)(self.object) }
        }
    }
}

/// Asks broker `broker` to describe `topics`. Returns one result for each topic, in the same order.
pub fn describe<C: ClientContext>(
    client: &Client<C>,
    broker: i32,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<Result<Described, RDKafkaErrorCode>>, DescribeError> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<CString> =
        topics.iter().map(|name| CString::new(*name)).collect::<Result<_, _>>().map_err(|_| DescribeError::Name)?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);

    // SAFETY: `client` lives through this function, and so do `names` and `pointers`, which the collection copies.
    // Each constructor's result is freed once by `Owned`, in reverse order of creation: the event before the queue it
    // came from. What is read from the event (descriptions, ids, errors) is copied before the event is freed.
    unsafe {
        let rk = client.native_ptr();
        let collection = Owned {
            object: rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr().cast(), pointers.len()),
            free: rd::rd_kafka_TopicCollection_destroy,
        };
        let options = Owned {
            object: rd::rd_kafka_AdminOptions_new(rk, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            free: rd::rd_kafka_AdminOptions_destroy,
        };
        rd::rd_kafka_AdminOptions_set_request_timeout(options.object, millis, ptr::null_mut(), 0);
        // Fails only for another kind of request; without this option every topic counts as readable.
        let _refused = Owned {
            object: rd::rd_kafka_AdminOptions_set_include_authorized_operations(options.object, 1),
            free: rd::rd_kafka_error_destroy,
        };
        // Any broker can answer. By default librdkafka waits for the controller, which the embedded cluster lacks.
        rd::rd_kafka_AdminOptions_set_broker(options.object, broker, ptr::null_mut(), 0);
        let queue = Owned { object: rd::rd_kafka_queue_new(rk), free: rd::rd_kafka_queue_destroy };
        rd::rd_kafka_DescribeTopics(rk, collection.object, options.object, queue.object);
        // Slightly longer than the request timeout, so that its error arrives.
        let event = Owned {
            object: rd::rd_kafka_queue_poll(queue.object, millis.saturating_add(500)),
            free: rd::rd_kafka_event_destroy,
        };
        if event.object.is_null() {
            return Err(DescribeError::Timeout(timeout));
        }
        if rd::rd_kafka_event_error(event.object) as i32 != 0 {
            return Err(DescribeError::Refused(text(rd::rd_kafka_event_error_string(event.object))));
        }
        let result = rd::rd_kafka_event_DescribeTopics_result(event.object);
        if result.is_null() {
            return Err(DescribeError::Refused("librdkafka answered something else".into()));
        }
        let mut count = 0;
        let descriptions = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let mut by_name = std::collections::HashMap::new();
        for at in 0..count {
            let description = *descriptions.add(at);
            by_name.insert(text(rd::rd_kafka_TopicDescription_name(description)), described(description));
        }
        Ok(topics
            .iter()
            .map(|name| by_name.remove(*name).unwrap_or(Err(RDKafkaErrorCode::UnknownTopicOrPartition)))
            .collect())
    }
}

/// # Safety
/// `description` points into an event that is not freed yet.
unsafe fn described(description: *const rd::rd_kafka_TopicDescription_t) -> Result<Described, RDKafkaErrorCode> {
    // SAFETY: as promised by the caller. All reads are within the description, the arrays have the returned lengths,
    // and everything that is kept is copied.
    unsafe {
        let error = rd::rd_kafka_error_code(rd::rd_kafka_TopicDescription_error(description));
        if error as i32 != 0 {
            return Err(error.into());
        }
        let mut count = 0;
        let partitions = rd::rd_kafka_TopicDescription_partitions(description, &raw mut count);
        let leaderless = (0..count).map(|at| *partitions.add(at));
        let leaderless = leaderless.filter(|info| rd::rd_kafka_TopicPartitionInfo_leader(*info).is_null());
        let leaderless = leaderless.map(|info| rd::rd_kafka_TopicPartitionInfo_partition(info)).collect();
        let mut allowed = 0;
        let operations = rd::rd_kafka_TopicDescription_authorized_operations(description, &raw mut allowed);
        let read = rd::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ;
        // Null: the broker did not report operations.
        let readable = operations.is_null() || (0..allowed).any(|at| *operations.add(at) == read);
        let uuid = rd::rd_kafka_TopicDescription_topic_id(description);
        let known = !uuid.is_null()
            && (rd::rd_kafka_Uuid_most_significant_bits(uuid) != 0
                || rd::rd_kafka_Uuid_least_significant_bits(uuid) != 0);
        let id = known.then(|| text(rd::rd_kafka_Uuid_base64str(uuid)));
        Ok(Described { id, partitions: i32::try_from(count).unwrap_or(i32::MAX), leaderless, readable })
    }
}

/// # Safety
/// `from` is null or points to a text that ends in a zero byte.
unsafe fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}
